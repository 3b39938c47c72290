// SPDX-License-Identifier: Apache-2.0
// Notifications from an application in the role of the kernel to a sequence of hosts.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "ipc/shared_memory.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kEntries = 256;
const bh_callback_set kAll = bh_set_everything();

uint64_t Soon() { return MonotonicAfterNs(30 * kNanosecondsPerSecond); }

class NotificationTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    spec_.driver = "test";
    spec_.geometry = {.lanes = 1, .slots_per_lane = 4, .call_chunks = 1, .reply_chunks = 0};
    spec_.notify_entries = kEntries;
    absl::StatusOr<ChannelId> channel = shim_->AddChannel(spec_);
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_ = *channel;
    ASSERT_TRUE(shim_->SetNotifications(channel_, kAll).ok());
  }

  void End() { ASSERT_TRUE(shim_->EndGeneration(channel_, generation_, BH_END_CRASHED).ok()); }
  // The next generation's port and reader.
  void Begin() {
    reader_.reset();
    absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(channel_);
    ASSERT_TRUE(regions.ok()) << regions.status();
    HostPortOptions options;
    options.generation = ++generation_;
    absl::StatusOr<std::unique_ptr<HostPort>> port = HostPort::Attach(
        std::move(regions->call_region), std::move(regions->reply_region), UniqueFd(), options);
    ASSERT_TRUE(port.ok()) << port.status();
    port_ = *std::move(port);
    absl::StatusOr<std::unique_ptr<NotificationReader>> reader =
        port_->OpenNotifications(std::move(regions->notification_region));
    ASSERT_TRUE(reader.ok()) << reader.status();
    reader_ = *std::move(reader);
    ASSERT_TRUE(
        shim_->BeginGeneration(channel_, GenerationSpec(generation_, {}, {}, 1, kAll), UniqueFd())
            .ok());
  }

  void Notify(uint32_t pid, std::string_view text = {}) {
    bh_notification notification = {};
    notification.kind = BH_NOTIFY_PROCESS_EXECUTED;
    notification.pid = pid;
    notification.text = text.data();
    notification.text_bytes = text.size();
    shim_->Notify(notification);
  }

  // Sets the words as a hostile host can.
  void ForgePosition(uint64_t read) {
    absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(channel_);
    ASSERT_TRUE(regions.ok());
    auto memory = SharedMemory::MapChecked(std::move(regions->reply_region),
                                           bh_reply_region_bytes(&spec_.geometry),
                                           SharedMemory::Access::kReadWrite, 0);
    ASSERT_TRUE(memory.ok()) << memory.status();
    bh_store_release(
        &reinterpret_cast<bh_notification_reader*>(memory->data() + BH_NOTIFICATION_READER_OFFSET)
             ->read,
        read);
  }

  bh_statistics Statistics() { return *shim_->Statistics(channel_); }
  uint64_t Lost() {
    uint64_t sum = 0;
    for (const uint64_t count : Statistics().lost) sum += count;
    return sum;
  }

  ChannelSpec spec_;
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  uint32_t generation_ = 0;
  std::unique_ptr<HostPort> port_;
  std::unique_ptr<NotificationReader> reader_;
  std::array<Notification, 64> batch_;
};

TEST_F(NotificationTest, ArriveInBatches) {
  Begin();
  EXPECT_EQ(reader_->Read(absl::MakeSpan(batch_), 0), 0u);
  for (uint32_t pid = 1; pid <= 70; ++pid) Notify(pid, "/bin/" + std::to_string(pid));
  ASSERT_EQ(reader_->Read(absl::MakeSpan(batch_), Soon()), 64u);
  EXPECT_EQ(batch_[0].entry.number, 1u);
  EXPECT_EQ(batch_[63].text(), "/bin/64");
  EXPECT_EQ(Statistics().unread, 70u);
  reader_->Release(batch_[63]);
  EXPECT_EQ(Statistics().unread, 6u);
  ASSERT_EQ(reader_->Read(absl::MakeSpan(batch_), Soon()), 6u);
  EXPECT_EQ(batch_[5].entry.pid, 70u);
}

TEST_F(NotificationTest, OnlyRegisteredKindsArePublished) {
  Begin();
  EXPECT_TRUE(shim_->WantsNotification(BH_NOTIFY_PROCESS_EXECUTED));
  ASSERT_TRUE(shim_->SetNotifications(channel_, SetOf({BH_NOTIFY_FILE_CREATED})).ok());
  EXPECT_FALSE(shim_->WantsNotification(BH_NOTIFY_PROCESS_EXECUTED));
  Notify(1);
  EXPECT_EQ(reader_->Read(absl::MakeSpan(batch_), 0), 0u);
  EXPECT_EQ(Statistics().notified, 0u);
}

TEST_F(NotificationTest, TheNextHostContinuesAndLossesInBetweenAreCounted) {
  Begin();
  Notify(1);
  Notify(2);
  ASSERT_EQ(reader_->Read(absl::MakeSpan(batch_), Soon()), 2u);
  reader_->Release(batch_[0]);  // the second was not given to the driver yet
  End();
  for (uint32_t pid = 3; pid <= kEntries + 11; ++pid) Notify(pid);
  // The room of the first had not been given back.
  EXPECT_EQ(Statistics().lost[BH_LOST_ABSENT], 11u);
  Begin();
  uint32_t pid = 1;
  while (const size_t count = reader_->Read(absl::MakeSpan(batch_), 0)) {
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(batch_[i].entry.pid, ++pid);
    reader_->Release(batch_[count - 1]);
  }
  EXPECT_EQ(pid, kEntries);
  Notify(9999);
  ASSERT_EQ(reader_->Read(absl::MakeSpan(batch_), Soon()), 1u);
  EXPECT_EQ(batch_[0].entry.missed, 11u);
  EXPECT_EQ(reader_->lost(BH_LOST_ABSENT), 11u);
}

// Room is given back for several entries at a time; the position given to the driver is exact.
TEST_F(NotificationTest, NoneIsDeliveredAgainWhileItsRoomIsNotGivenBack) {
  Begin();
  for (uint32_t pid = 1; pid <= 64; ++pid) Notify(pid);
  uint32_t told = 0;
  for (const uint32_t hand : {1u, 16u, 20u, 27u}) {
    const size_t count = reader_->Read(absl::MakeSpan(batch_), Soon());
    ASSERT_EQ(count, 64 - told);
    for (uint32_t i = 0; i < hand; ++i) {
      EXPECT_EQ(batch_[i].entry.pid, ++told);
      reader_->Release(batch_[i]);
      EXPECT_LT(64 - told, 1 + Statistics().unread);
      EXPECT_LT(Statistics().unread, 64 - told + 16);
    }
    End();
    Begin();
  }
  EXPECT_EQ(told, 64u);
  EXPECT_EQ(Statistics().unread, 0u);
  EXPECT_EQ(reader_->Read(absl::MakeSpan(batch_), 0), 0u);
}

// A host of a version without the word `told` leaves the value that an earlier host wrote.
TEST_F(NotificationTest, AnOldPositionOfDeliveryIsIgnored) {
  Begin();
  for (uint32_t pid = 1; pid <= 64; ++pid) Notify(pid);
  ASSERT_EQ(reader_->Read(absl::MakeSpan(batch_), Soon()), 64u);
  reader_->Release(batch_[9]);
  ForgePosition(20);
  End();
  Begin();
  ASSERT_EQ(reader_->Read(absl::MakeSpan(batch_), Soon()), 44u);
  EXPECT_EQ(batch_[0].entry.pid, 21u);
}

TEST_F(NotificationTest, SeveralAreDeliveredInTheirOrder) {
  Begin();
  std::array<bh_notification, kEntries + 5> several = {};
  for (uint32_t i = 0; i < several.size(); ++i) {
    several[i].kind = BH_NOTIFY_PROCESS_EXECUTED;
    several[i].pid = i + 1;
  }
  shim_->Notify(several);
  uint32_t pid = 0;
  while (const size_t count = reader_->Read(absl::MakeSpan(batch_), 0)) {
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(batch_[i].entry.pid, ++pid);
    reader_->Release(batch_[count - 1]);
  }
  EXPECT_EQ(pid, kEntries);
  EXPECT_EQ(Statistics().lost[BH_LOST_FULL], 5u);
}

TEST_F(NotificationTest, AForgedPositionCostsOnlyItsHostNotifications) {
  Begin();
  for (uint32_t pid = 1; pid <= kEntries; ++pid) Notify(pid);
  for (const uint64_t lie : {uint64_t{kEntries} + 1, ~uint64_t{0}, uint64_t{1} << 63}) {
    ForgePosition(lie);
    Notify(0);
    const bh_statistics statistics = Statistics();
    EXPECT_EQ(statistics.unread, kEntries);
    EXPECT_EQ(statistics.notified, statistics.unread + Lost());
  }
  EXPECT_EQ(Statistics().lost[BH_LOST_CURSOR], 3u);
  End();
  Begin();  // its position is still in the word
  ASSERT_EQ(reader_->Read(absl::MakeSpan(batch_), Soon()), 64u);
  EXPECT_EQ(batch_[0].entry.pid, 1u);
  reader_->Release(batch_[63]);
  Notify(7);
  EXPECT_EQ(Statistics().lost[BH_LOST_CURSOR], 3u);
}

// The position is moved past entries that this reader has not read: it continues with the oldest
// that is left.
TEST_F(NotificationTest, AnOverwrittenReaderContinues) {
  Begin();
  for (uint32_t pid = 1; pid <= kEntries; ++pid) Notify(pid);
  ForgePosition(10);
  for (uint32_t pid = kEntries + 1; pid <= kEntries + 10; ++pid) Notify(pid);
  uint32_t pid = 10;
  while (const size_t count = reader_->Read(absl::MakeSpan(batch_), 0)) {
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(batch_[i].entry.pid, ++pid);
    reader_->Release(batch_[count - 1]);
  }
  EXPECT_EQ(pid, kEntries + 10);
  EXPECT_EQ(Lost(), 0u);
}

TEST_F(NotificationTest, AReaderThatSleepsIsWokenAndStopped) {
  Begin();
  std::atomic<uint32_t> told{0};
  std::thread thread([this, &told] {
    while (const size_t count = reader_->Read(absl::MakeSpan(batch_), kForeverNs)) {
      reader_->Release(batch_[count - 1]);
      told.fetch_add(static_cast<uint32_t>(count));
    }
  });
  const uint64_t until_ns = Soon();
  for (uint32_t sent = 1; sent <= 200; ++sent) {
    Notify(sent);
    while (told.load() < sent && MonotonicNowNs() < until_ns) std::this_thread::yield();
  }
  EXPECT_EQ(told.load(), 200u);
  reader_->Stop();
  thread.join();
  EXPECT_EQ(reader_->Read(absl::MakeSpan(batch_), kForeverNs), 0u);
}

TEST_F(NotificationTest, ReturnsInTimeWhenNothingHappens) {
  Begin();
  EXPECT_EQ(reader_->Read(absl::MakeSpan(batch_), MonotonicAfterNs(kNanosecondsPerMillisecond)),
            0u);
}

TEST_F(NotificationTest, AHostCanNotWriteTheRing) {
  absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(channel_);
  ASSERT_TRUE(regions.ok());
  const size_t bytes = bh_notification_region_bytes(kEntries);
  EXPECT_EQ(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                 regions->notification_region.get(), 0),
            MAP_FAILED);
  EXPECT_EQ(pwrite(regions->notification_region.get(), "x", 1, 0), -1);
  EXPECT_NE(ftruncate(regions->notification_region.get(), 0), 0);
}

TEST_F(NotificationTest, SaysWhatIsWrongWithARing) {
  Begin();
  const auto refusal = [this](size_t bytes,
                              const std::function<void(bh_notification_header*)>& fill) {
    auto memory = SharedMemory::Create("bulkhead-test", bytes);
    EXPECT_TRUE(memory.ok());
    const uint32_t entries = static_cast<uint32_t>((bytes - 4096) / BH_NOTIFICATION_ENTRY_BYTES);
    auto* header = reinterpret_cast<bh_notification_header*>(memory->data());
    *header = {.magic = BH_NOTIFICATION_MAGIC,
               .version = BH_NOTIFICATION_VERSION,
               .entries = entries,
               .entry_bytes = BH_NOTIFICATION_ENTRY_BYTES,
               .bytes = bytes};
    fill(header);
    EXPECT_TRUE(memory->SealAgainstResize().ok() && memory->SealAgainstNewWriters().ok());
    auto reader = port_->OpenNotifications(*memory->fd().Duplicate());
    return std::string(reader.status().message());
  };
  const size_t good = bh_notification_region_bytes(64);
  EXPECT_THAT(refusal(good, [](auto*) {}), "");
  EXPECT_THAT(refusal(4096, [](auto*) {}), HasSubstr("is not the size of a ring"));
  EXPECT_THAT(refusal(good + 4096, [](auto*) {}), HasSubstr("is not the size of a ring"));
  EXPECT_THAT(refusal(good, [](auto* header) { header->magic++; }), HasSubstr("this version"));
  EXPECT_THAT(refusal(good, [](auto* header) { header->version++; }), HasSubstr("this version"));
  EXPECT_THAT(refusal(good, [](auto* header) { header->entries *= 2; }), HasSubstr("contradicts"));
  EXPECT_THAT(refusal(good, [](auto* header) { header->entry_bytes = 64; }),
              HasSubstr("contradicts"));
  EXPECT_THAT(refusal(good, [](auto* header) { header->bytes++; }), HasSubstr("contradicts"));
}

// Several threads flood one reader that sleeps, wakes and falls behind; no number is delivered
// twice, and each number not delivered is counted.
TEST_F(NotificationTest, AFloodIsDeliveredOrCounted) {
  constexpr uint32_t kThreads = 3;
  constexpr uint32_t kEach = 20'000;
  Begin();
  std::atomic<bool> more{true};
  uint64_t told = 0, missed = 0, number = 0, wrong = 0;
  std::thread reader([&] {
    for (;;) {
      const bool last = !more.load();
      const size_t count = reader_->Read(absl::MakeSpan(batch_),
                                         last ? 0 : MonotonicAfterNs(kNanosecondsPerMillisecond));
      for (size_t i = 0; i < count; ++i) {
        wrong += batch_[i].entry.number != number + batch_[i].entry.missed + 1;
        wrong += batch_[i].text() != std::string(batch_[i].entry.pid, 'x');
        number = batch_[i].entry.number;
        missed += batch_[i].entry.missed;
        ++told;
      }
      if (count != 0) reader_->Release(batch_[count - 1]);
      if (last && count == 0) return;
    }
  });
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, i] {
      const std::string text(100 * i, 'x');
      for (uint32_t j = 0; j < kEach; ++j) Notify(100 * i, text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  more = false;
  reader.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(Statistics().notified, uint64_t{kThreads} * kEach);
  EXPECT_EQ(told + Lost(), Statistics().notified);
  EXPECT_EQ(number + Lost() - missed, Statistics().notified);
  EXPECT_EQ(Statistics().unread, 0u);
}

}  // namespace
}  // namespace bulkhead
