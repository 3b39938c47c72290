// SPDX-License-Identifier: Apache-2.0
//
// A reader and rings that no shim of ours writes. Tests with a real shim: shim/embedded.
#include "ipc/notification_reader.h"

#include <fcntl.h>

#include <array>
#include <chrono>
#include <future>
#include <utility>

#include "gtest/gtest.h"
#include "ipc/futex_transport.h"
#include "ipc/shared_memory.h"

namespace bulkhead {
namespace {

constexpr uint32_t kEntries = BH_NOTIFICATION_ENTRIES_MIN;

// All sleeps time out at once; wake-ups are counted.
class NoSleep final : public HostTransport {
 public:
  int wakes = 0;

  FutexResult WaitForCall(uint32_t, uint32_t*, uint32_t, uint64_t) override {
    return FutexResult::kTimedOut;
  }
  void WakeWorker(uint32_t, uint32_t*) override { ++wakes; }
  void WakeCaller(uint32_t, uint32_t*) override {}
  absl::StatusOr<UniqueFd> ReceiveFile(uint32_t, uint64_t) override {
    return absl::NotFoundError("none");
  }
  uint64_t stray_files() const override { return 0; }
  absl::StatusOr<SharedMemory> MapNotifications(UniqueFd region) override {
    return MapSealedNotifications(std::move(region));
  }
};

TEST(NotificationReader, KeepsItsTimeInARingThatContradictsItself) {
  auto memory = SharedMemory::Create("ring", bh_notification_region_bytes(kEntries));
  ASSERT_TRUE(memory.ok()) << memory.status();
  *reinterpret_cast<bh_notification_header*>(memory->data()) = {
      .magic = BH_NOTIFICATION_MAGIC,
      .version = BH_NOTIFICATION_VERSION,
      .entries = kEntries,
      .entry_bytes = BH_NOTIFICATION_ENTRY_BYTES,
      .bytes = memory->bytes()};
  // Nothing was accepted, but the first place holds an entry of the second round.
  reinterpret_cast<bh_notification_entry*>(memory->data() +
                                           bh_notification_entry_offset(kEntries, 0))
      ->published = kEntries + 1;
  ASSERT_TRUE(memory->SealAgainstResize().ok() && memory->SealAgainstNewWriters().ok());

  bh_notification_reader words = {};
  NoSleep transport;
  auto descriptor = memory->fd().Duplicate();
  ASSERT_TRUE(descriptor.ok()) << descriptor.status();
  auto reader = NotificationReader::Attach(*std::move(descriptor), &words, &transport);
  ASSERT_TRUE(reader.ok()) << reader.status();
  auto read = std::async(std::launch::async, [&] {
    std::array<Notification, 4> batch;
    return (*reader)->Read(absl::MakeSpan(batch), 1);
  });
  const bool ended = read.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  (*reader)->Stop();
  EXPECT_TRUE(ended) << "Read does not return at its time";
  EXPECT_EQ(read.get(), 0u);
  // No word announces a sleeper, as after a shim that died between its two steps of waking one.
  EXPECT_EQ(transport.wakes, 1);
}

}  // namespace
}  // namespace bulkhead
