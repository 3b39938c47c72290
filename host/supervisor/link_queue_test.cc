// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/link_queue.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/monotonic.h"
#include "tests/testing/fake_host_processes.h"

namespace bulkhead {
namespace {

constexpr uint64_t kSoonNs = 30 * kNanosecondsPerSecond;
constexpr uint64_t kAtOnceNs = 10 * kNanosecondsPerMillisecond;

class LinkQueueTest : public ::testing::Test {
 protected:
  void SetUp() override {
    queue_ = std::make_unique<LinkQueue>(
        link_, [ahead_ns = ahead_ns_] { return MonotonicNowNs() + *ahead_ns; });
  }
  void TearDown() override {
    link_->LetGo();
    queue_.reset();
    const std::weak_ptr<FakeShimLink> link = std::exchange(link_, nullptr);
    EXPECT_TRUE(Eventually([&link] { return link.expired(); })) << "a thread still has the link";
  }
  template <typename Condition>
  static bool Eventually(Condition condition) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (!condition()) {
      if (MonotonicNowNs() > until_ns) return false;
      sched_yield();
    }
    return true;
  }
  // A request that waits in the shim until LetGo.
  void SubmitHeld(LinkQueue::LaneId lane, ChannelId held) {
    queue_->Submit(lane, [held](ShimLink& link, ChannelId&) {
      (void)link.SetState(held, /*quarantined=*/false, /*draining=*/false);
    });
  }
  // False: the lane did not carry it.
  bool Carries(LinkQueue::LaneId lane) {
    std::promise<void> carried;
    std::future<void> done = carried.get_future();
    queue_->Submit(lane, [&carried](ShimLink&, ChannelId&) { carried.set_value(); });
    return done.wait_for(std::chrono::nanoseconds(kSoonNs)) == std::future_status::ready;
  }

  std::shared_ptr<FakeShimLink> link_ = std::make_shared<FakeShimLink>();
  // The clock's own, since a thread that the queue abandoned may read it after the test.
  std::shared_ptr<std::atomic<uint64_t>> ahead_ns_ = std::make_shared<std::atomic<uint64_t>>(0);
  std::unique_ptr<LinkQueue> queue_;
};

TEST_F(LinkQueueTest, EachLaneCarriesItsRequestsOnceAndInOrder) {
  constexpr int kLanes = 8, kRequests = 1000;
  std::vector<std::vector<int>> carried(kLanes);
  for (ChannelId channel = 0; channel < kLanes; ++channel) queue_->AddLane(channel);
  std::vector<std::thread> submitters;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    submitters.emplace_back([&, lane] {
      for (int i = 0; i < kRequests; ++i) {
        queue_->Submit(lane, [&carried, lane, i](ShimLink&, ChannelId& channel) {
          EXPECT_EQ(channel, lane);
          carried[lane].push_back(i);
        });
      }
    });
  }
  for (std::thread& submitter : submitters) submitter.join();
  EXPECT_TRUE(queue_->Stop(MonotonicAfterNs(kSoonNs)));
  for (const std::vector<int>& numbers : carried) {
    ASSERT_EQ(numbers.size(), size_t{kRequests});
    for (int i = 0; i < kRequests; ++i) ASSERT_EQ(numbers[static_cast<size_t>(i)], i);
  }
}

TEST_F(LinkQueueTest, AChannelThatARequestSetsIsTheNextRequests) {
  const auto lane = queue_->AddLane(3);
  queue_->Submit(lane, [](ShimLink&, ChannelId& channel) { channel = 5; });
  std::atomic<ChannelId> seen = 0;
  queue_->Submit(lane, [&seen](ShimLink&, ChannelId& channel) { seen = channel; });
  EXPECT_TRUE(queue_->Stop(MonotonicAfterNs(kSoonNs)));
  EXPECT_EQ(seen, 5u);
}

// As many lanes as a shim has channels, all but one of which wait for ever.
TEST_F(LinkQueueTest, LanesThatWaitDelayNoOther) {
  constexpr ChannelId kHeld = LinkQueue::kThreadsMax - 2;
  for (ChannelId channel = 0; channel <= kHeld; ++channel) queue_->AddLane(channel);
  for (ChannelId channel = 0; channel < kHeld; ++channel) {
    link_->Hold(channel);
    SubmitHeld(channel, channel);
  }
  for (ChannelId channel = 0; channel < kHeld; ++channel) {
    ASSERT_TRUE(Eventually([&] { return queue_->SilentNs(channel) > 0; })) << channel;
  }
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Carries(kHeld));
  EXPECT_TRUE(Eventually([&] { return queue_->SilentNs(kHeld) == 0; }));
}

TEST_F(LinkQueueTest, SilenceIsMeasuredFromTheBeginOfTheRequest) {
  const auto lane = queue_->AddLane(0);
  EXPECT_EQ(queue_->SilentNs(lane), 0u);
  link_->Hold(0);
  SubmitHeld(lane, 0);
  ASSERT_TRUE(link_->WaitUntilHeld(MonotonicAfterNs(kSoonNs)));
  *ahead_ns_ = 5 * kNanosecondsPerSecond;
  EXPECT_GE(queue_->SilentNs(lane), 5 * kNanosecondsPerSecond);
  EXPECT_GE(queue_->ReportOf(lane).silent_ns, 5 * kNanosecondsPerSecond);
  link_->LetGo();
  EXPECT_TRUE(Eventually([&] { return queue_->SilentNs(lane) == 0; }));
}

TEST_F(LinkQueueTest, RefreshReturnsWithCountsThatAreNewerThanItsCall) {
  const auto first = queue_->AddLane(0);
  const auto second = queue_->AddLane(1);
  EXPECT_FALSE(queue_->ReportOf(first).has_statistics);
  *ahead_ns_ = 5 * kNanosecondsPerSecond;
  EXPECT_GE(queue_->ReportOf(first).statistics_age_ns, 5 * kNanosecondsPerSecond);
  for (int i = 0; i < 100; ++i) {
    const uint64_t before = link_->statistics_asked;
    queue_->Refresh(MonotonicAfterNs(kSoonNs));
    for (const auto lane : {first, second}) {
      const LinkQueue::Report report = queue_->ReportOf(lane);
      ASSERT_TRUE(report.has_statistics);
      EXPECT_GT(report.statistics.calls, before);
    }
  }
}

// A fetch that was under way when Refresh was called may have read the counters before.
TEST_F(LinkQueueTest, RefreshWaitsForTheFetchAfterTheOneUnderWay) {
  const auto lane = queue_->AddLane(0);
  queue_->AddLane(1);
  link_->Hold(0);
  queue_->Refresh(MonotonicAfterNs(kAtOnceNs));
  ASSERT_TRUE(Eventually([this] { return link_->statistics_asked == 2; }));
  std::thread refresher([this] { queue_->Refresh(MonotonicAfterNs(kSoonNs)); });
  // The other lane's fetch shows that the second Refresh has begun.
  ASSERT_TRUE(Eventually([this] { return link_->statistics_asked == 3; }));
  link_->LetGo();
  refresher.join();
  EXPECT_GT(queue_->ReportOf(lane).statistics.calls, 3u);
}

TEST_F(LinkQueueTest, RefreshEndsAtItsBoundAndKeepsTheOldCounts) {
  const auto lane = queue_->AddLane(0);
  const auto other = queue_->AddLane(1);
  queue_->Refresh(MonotonicAfterNs(kSoonNs));
  const uint64_t old = queue_->ReportOf(lane).statistics.calls;
  const uint64_t others = queue_->ReportOf(other).statistics.calls;
  link_->Hold(0);
  queue_->Refresh(MonotonicAfterNs(kAtOnceNs));
  *ahead_ns_ = 5 * kNanosecondsPerSecond;
  const LinkQueue::Report report = queue_->ReportOf(lane);
  EXPECT_EQ(report.statistics.calls, old);
  EXPECT_GE(report.statistics_age_ns, 5 * kNanosecondsPerSecond);
  EXPECT_TRUE(Eventually([&] { return queue_->ReportOf(other).statistics.calls > others; }));
}

TEST_F(LinkQueueTest, AnErrorOfTheShimIsReportedUntilItAnswersAgain) {
  const auto lane = queue_->AddLane(0);
  link_->statistics_fail = true;
  queue_->Refresh(MonotonicAfterNs(kSoonNs));
  EXPECT_EQ(queue_->ReportOf(lane).error, "the shim has no counters");
  link_->statistics_fail = false;
  queue_->Refresh(MonotonicAfterNs(kSoonNs));
  EXPECT_EQ(queue_->ReportOf(lane).error, "");
}

TEST_F(LinkQueueTest, AStopDropsWhatHasNotBegunAndLeavesTheLinkToTheRequestWithoutAnswer) {
  const auto lane = queue_->AddLane(0);
  const auto waiting = std::make_shared<int>();
  std::atomic<bool> carried = false;
  link_->Hold(0);
  SubmitHeld(lane, 0);
  ASSERT_TRUE(link_->WaitUntilHeld(MonotonicAfterNs(kSoonNs)));
  queue_->Submit(lane, [waiting, &carried](ShimLink&, ChannelId&) { carried = true; });
  EXPECT_FALSE(queue_->Stop(MonotonicAfterNs(kAtOnceNs)));
  EXPECT_EQ(waiting.use_count(), 1) << "a request that was dropped is destroyed";
  queue_->Submit(lane, [waiting, &carried](ShimLink&, ChannelId&) { carried = true; });
  EXPECT_EQ(waiting.use_count(), 1);
  queue_.reset();
  EXPECT_GT(link_.use_count(), 1) << "the request still waits in it";
  link_->LetGo();
  EXPECT_TRUE(Eventually([this] { return link_.use_count() == 1; }));
  EXPECT_FALSE(carried);
}

TEST_F(LinkQueueTest, AStopEndsARefreshThatWaits) {
  queue_->AddLane(0);
  link_->Hold(0);
  std::thread refresher([this] { queue_->Refresh(kForeverNs); });
  ASSERT_TRUE(link_->WaitUntilHeld(MonotonicAfterNs(kSoonNs)));
  EXPECT_FALSE(queue_->Stop(MonotonicAfterNs(kAtOnceNs)));
  refresher.join();
}

}  // namespace
}  // namespace bulkhead
