// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "ipc/descriptor_inbox.h"
#include "ipc/host_transport.h"

namespace bulkhead {
namespace {

class FutexTransport final : public HostTransport {
 public:
  FutexTransport(UniqueFd socket, uint32_t generation, uint32_t slots)
      : inbox_(std::move(socket), generation, slots) {}

  FutexResult WaitForCall(uint32_t, uint32_t* word, uint32_t announced,
                          uint64_t until_ns) override {
    return FutexWait(word, announced, FutexScope::kShared, until_ns);
  }
  void WakeWorker(uint32_t, uint32_t* word) override {
    FutexWake(word, FutexScope::kShared, kFutexWakeAll);
  }
  void WakeCaller(uint32_t, uint32_t* bell) override {
    FutexWake(bell, FutexScope::kShared, kFutexWakeAll);
  }
  absl::StatusOr<UniqueFd> ReceiveFile(uint32_t slot, uint64_t ticket) override {
    return inbox_.Receive(slot, ticket);
  }
  uint64_t stray_files() const override { return inbox_.stray(); }

 private:
  DescriptorInbox inbox_;
};

}  // namespace

std::unique_ptr<HostTransport> MakeFutexTransport(UniqueFd descriptor_socket, uint32_t generation,
                                                  uint32_t slots) {
  return std::make_unique<FutexTransport>(std::move(descriptor_socket), generation, slots);
}

}  // namespace bulkhead
