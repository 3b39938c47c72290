// SPDX-License-Identifier: Apache-2.0
//
// A host reads a notification and dies at each instruction of the shim that writes it: the next
// host does not get it again, and gets all later ones.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <utility>

#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/faults/stepped_process.h"

namespace bulkhead {
namespace {

constexpr uint32_t kEntries = BH_NOTIFICATION_ENTRIES_MIN;
constexpr long kInstructionsMax = 100'000;

// One life of a reader of the ring.
struct Reader {
  std::unique_ptr<HostPort> port;
  std::unique_ptr<NotificationReader> reader;
};

class NotificationStep : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!SteppedProcess::Allowed()) GTEST_SKIP() << "this machine does not permit tracing a child";
    auto shim = EmbeddedShim::Create({});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "told";
    spec.geometry = {.lanes = 1, .slots_per_lane = 1, .call_chunks = 1, .reply_chunks = 0};
    spec.notify_entries = kEntries;
    const auto channel = shim_->AddChannel(spec);
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_ = *channel;
    ASSERT_TRUE(shim_->SetNotifications(channel_, bh_set_everything()).ok());
  }

  void Notify(uint32_t pid) {
    bh_notification notification = {};
    notification.kind = BH_NOTIFY_PROCESS_EXECUTED;
    notification.pid = pid;
    notification.text = "/bin/true";
    notification.text_bytes = 9;
    shim_->Notify(notification);
  }

  Reader Attach() {
    auto regions = shim_->Descriptors(channel_);
    EXPECT_TRUE(regions.ok()) << regions.status();
    auto port =
        HostPort::Attach(std::move(regions->call_region), std::move(regions->reply_region),
                         UniqueFd(), {.generation = ++generation_, .workers = 1, .spin_ns = 0});
    EXPECT_TRUE(port.ok()) << port.status();
    auto reader = (*port)->OpenNotifications(std::move(regions->notification_region));
    EXPECT_TRUE(reader.ok()) << reader.status();
    return {.port = *std::move(port), .reader = *std::move(reader)};
  }

  // Takes the notifications that this life gets.
  size_t Take(Reader& host, uint32_t pid) {
    const size_t count = host.reader->Read(absl::MakeSpan(batch_), 0);
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(batch_[i].entry.pid, pid);
    if (count != 0) host.reader->Release(batch_[count - 1]);
    return count;
  }

  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  uint32_t generation_ = 0;
  std::array<Notification, 4> batch_;
  const OnOneCpu on_one_cpu_;
};

TEST_F(NotificationStep, NoSuccessorGetsItAgain) {
  SteppedProcess writer([this] {
    for (uint32_t entry = 2; entry < kEntries; ++entry) Notify(0);
    SteppedProcess::StopHere();
    for (uint32_t pid = 1;; ++pid) {
      Notify(pid);
      SteppedProcess::StopHere();
    }
  });
  size_t before = 0;
  {
    Reader host = Attach();
    size_t count = 0;
    do {
      count = Take(host, 0);
      before += count;
    } while (count != 0);
  }
  ASSERT_EQ(before, kEntries - 2);
  // Three notifications: in the ring's last two places, and in its first one, which was full
  // before.
  for (uint32_t pid = 1; pid <= 3; ++pid) {
    size_t told = 0;
    long steps = 0;
    for (; steps < kInstructionsMax && writer.Step(1) == 1; ++steps) {
      Reader host = Attach();
      told += Take(host, pid);
    }
    ASSERT_TRUE(writer.alive());
    ASSERT_LT(steps, kInstructionsMax);
    Reader host = Attach();
    told += Take(host, pid);
    EXPECT_EQ(told, 1u) << "over " << steps << " instructions";
  }
}

}  // namespace
}  // namespace bulkhead
