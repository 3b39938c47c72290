// SPDX-License-Identifier: Apache-2.0
#include <sys/ioctl.h>

#include <cerrno>
#include <utility>

#include "ipc/abi/module.h"
#include "ipc/host_transport.h"

namespace bulkhead {
namespace {

class ModuleTransport final : public HostTransport {
 public:
  explicit ModuleTransport(UniqueFd device) : device_(std::move(device)) {}

  FutexResult WaitForCall(uint32_t worker, uint32_t*, uint32_t, uint64_t until_ns) override {
    bh_module_wait wait = {.worker = worker, .reserved = 0, .until_ns = until_ns};
    const bool timed_out = ioctl(device_.get(), BH_HOST_WAIT, &wait) != 0 && errno == ETIMEDOUT;
    return timed_out ? FutexResult::kTimedOut : FutexResult::kLookAgain;
  }
  void WakeWorker(uint32_t worker, uint32_t*) override {
    (void)ioctl(device_.get(), BH_HOST_WAKE, static_cast<unsigned long>(worker));
  }
  void WakeCaller(uint32_t slot, uint32_t*) override {
    (void)ioctl(device_.get(), BH_HOST_RING, static_cast<unsigned long>(slot));
  }
  absl::StatusOr<UniqueFd> ReceiveFile(uint32_t slot, uint64_t ticket) override {
    bh_module_fetch wanted = {.ticket = ticket, .slot = slot, .reserved = 0};
    const int fd = ioctl(device_.get(), BH_HOST_FETCH, &wanted);
    if (fd < 0) return absl::ErrnoToStatus(errno, "the call's file");
    return UniqueFd(fd);
  }
  uint64_t stray_files() const override { return 0; }

 private:
  const UniqueFd device_;
};

}  // namespace

std::unique_ptr<HostTransport> MakeModuleTransport(UniqueFd device) {
  return std::make_unique<ModuleTransport>(std::move(device));
}

bool IsModuleHost(int fd, bh_geometry* geometry) { return ioctl(fd, BH_HOST_INFO, geometry) == 0; }

bool IsModuleRing(int fd, uint32_t* entries) {
  bh_module_ring ring = {};
  if (ioctl(fd, BH_HOST_RING_INFO, &ring) != 0) return false;
  *entries = ring.entries;
  return ring.entries != 0;
}

}  // namespace bulkhead
