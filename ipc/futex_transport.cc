// SPDX-License-Identifier: Apache-2.0
#include "ipc/futex_transport.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/channel_header.h"
#include "ipc/descriptor_inbox.h"

namespace bulkhead {
namespace {

constexpr int kReadOnlySeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
constexpr int kReplySeals = F_SEAL_SHRINK | F_SEAL_GROW;

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
  absl::StatusOr<SharedMemory> MapNotifications(UniqueFd region) override {
    return MapSealedNotifications(std::move(region));
  }

 private:
  DescriptorInbox inbox_;
};

// Read through the descriptor, not a mapping: a private copy before anything is believed.
absl::StatusOr<bh_channel_header> ReadHeader(int fd) {
  bh_channel_header header;
  ssize_t bytes;
  do {
    bytes = pread(fd, &header, sizeof(header), 0);
  } while (bytes < 0 && errno == EINTR);
  if (bytes != static_cast<ssize_t>(sizeof(header))) {
    return absl::InvalidArgumentError("the call region has no header: it is too short to read");
  }
  return header;
}

absl::StatusOr<SharedMemory> MapRegion(const char* name, UniqueFd fd, size_t bytes,
                                       SharedMemory::Access access, int seals) {
  absl::StatusOr<SharedMemory> memory =
      SharedMemory::MapChecked(std::move(fd), bytes, access, seals);
  if (memory.ok()) return memory;
  return absl::Status(memory.status().code(), absl::StrCat(name, ": ", memory.status().message()));
}

}  // namespace

constinit const HostTransportKind kFutexTransport = {
    .name = "futex",
    .recognizes = [](int call_region) { return fcntl(call_region, F_GET_SEALS) >= 0; },
    .map = MapSealedChannel,
    .ioctls = {},
};

absl::StatusOr<MappedChannel> MapSealedChannel(HostDescriptors descriptors, uint32_t generation) {
  const absl::StatusOr<bh_channel_header> header = ReadHeader(descriptors.call_region.get());
  if (!header.ok()) return header.status();
  const absl::StatusOr<bh_geometry> geometry = CheckChannelHeader(*header);
  if (!geometry.ok()) return geometry.status();
  absl::StatusOr<SharedMemory> call =
      MapRegion("call region", std::move(descriptors.call_region), bh_call_region_bytes(&*geometry),
                SharedMemory::Access::kReadOnly, kReadOnlySeals);
  if (!call.ok()) return call.status();
  absl::StatusOr<SharedMemory> reply =
      MapRegion("reply region", std::move(descriptors.reply_region),
                bh_reply_region_bytes(&*geometry), SharedMemory::Access::kReadWrite, kReplySeals);
  if (!reply.ok()) return reply.status();
  return MappedChannel{*geometry, *std::move(call), *std::move(reply),
                       std::make_unique<FutexTransport>(std::move(descriptors.files), generation,
                                                        bh_slot_count(&*geometry))};
}

absl::StatusOr<SharedMemory> MapSealedNotifications(UniqueFd region) {
  const absl::StatusOr<size_t> bytes = SealedMemoryBytes(region.get());
  if (!bytes.ok()) return bytes.status();
  return SharedMemory::MapChecked(std::move(region), *bytes, SharedMemory::Access::kReadOnly,
                                  kReadOnlySeals);
}

}  // namespace bulkhead
