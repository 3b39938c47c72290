// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/module/module_transport.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/abi/module.h"

namespace bulkhead {
namespace {

class ModuleTransport final : public HostTransport {
 public:
  explicit ModuleTransport(UniqueFd host) : host_(std::move(host)) {}

  FutexResult WaitForCall(uint32_t worker, uint32_t*, uint32_t, uint64_t until_ns) override {
    bh_module_wait wait = {.worker = worker, .reserved = 0, .until_ns = until_ns};
    const bool timed_out = ioctl(host_.get(), BH_HOST_WAIT, &wait) != 0 && errno == ETIMEDOUT;
    return timed_out ? FutexResult::kTimedOut : FutexResult::kLookAgain;
  }
  void WakeWorker(uint32_t worker, uint32_t*) override {
    (void)ioctl(host_.get(), BH_HOST_WAKE, static_cast<unsigned long>(worker));
  }
  void WakeCaller(uint32_t slot, uint32_t*) override {
    (void)ioctl(host_.get(), BH_HOST_RING, static_cast<unsigned long>(slot));
  }
  absl::StatusOr<UniqueFd> ReceiveFile(uint32_t slot, uint64_t ticket) override {
    bh_module_fetch wanted = {.ticket = ticket, .slot = slot, .reserved = 0};
    const int fd = ioctl(host_.get(), BH_HOST_FETCH, &wanted);
    if (fd < 0) return absl::ErrnoToStatus(errno, "the call's file");
    return UniqueFd(fd);
  }
  uint64_t stray_files() const override { return 0; }
  absl::StatusOr<SharedMemory> MapNotifications(UniqueFd region) override {
    const uint32_t entries = ModuleRingEntries(region.get());
    if (entries == 0) {
      return absl::InvalidArgumentError("the kernel module made no notification ring here");
    }
    return SharedMemory::MapDevice(std::move(region), BH_MODULE_NOTIFY_OFFSET,
                                   bh_notification_region_bytes(entries),
                                   SharedMemory::Access::kReadOnly);
  }

 private:
  const UniqueFd host_;
};

bool ReadGeometry(int fd, bh_geometry* geometry) { return ioctl(fd, BH_HOST_INFO, geometry) == 0; }

absl::Status WithRegion(const char* region, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(region, ": ", status.message()));
}

absl::StatusOr<MappedChannel> MapChannel(HostDescriptors descriptors, uint32_t /*generation*/) {
  MappedChannel channel;
  if (!ReadGeometry(descriptors.call_region.get(), &channel.geometry)) {
    return absl::ErrnoToStatus(errno, "call region: it is no host descriptor of the kernel module");
  }
  UniqueFd host(fcntl(descriptors.call_region.get(), F_DUPFD_CLOEXEC, 3));
  if (!host.valid()) return absl::ErrnoToStatus(errno, "a copy of the host descriptor");
  channel.transport = std::make_unique<ModuleTransport>(std::move(host));
  absl::StatusOr<SharedMemory> call = SharedMemory::MapDevice(
      std::move(descriptors.call_region), 0, bh_call_region_bytes(&channel.geometry),
      SharedMemory::Access::kReadOnly);
  if (!call.ok()) return WithRegion("call region", call.status());
  absl::StatusOr<SharedMemory> reply = SharedMemory::MapDevice(
      std::move(descriptors.reply_region), BH_MODULE_REPLY_OFFSET,
      bh_reply_region_bytes(&channel.geometry), SharedMemory::Access::kReadWrite);
  if (!reply.ok()) return WithRegion("reply region", reply.status());
  channel.call = *std::move(call);
  channel.reply = *std::move(reply);
  return channel;
}

constexpr unsigned long kIoctls[] = {BH_HOST_INFO, BH_HOST_WAIT,  BH_HOST_WAKE,
                                     BH_HOST_RING, BH_HOST_FETCH, BH_HOST_RING_INFO};

}  // namespace

constinit const HostTransportKind kModuleTransport = {
    .name = "module",
    .recognizes =
        [](int call_region) {
          bh_geometry geometry;
          return ReadGeometry(call_region, &geometry);
        },
    .map = MapChannel,
    .ioctls = kIoctls,
};

uint32_t ModuleRingEntries(int host) {
  bh_module_ring ring = {};
  return ioctl(host, BH_HOST_RING_INFO, &ring) == 0 ? ring.entries : 0;
}

}  // namespace bulkhead
