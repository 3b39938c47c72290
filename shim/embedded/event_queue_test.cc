// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/event_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <vector>

#include "shim/core/bulkhead_core.h"

namespace bulkhead {
namespace {

// A receiver that blocks the queue's thread in its first delivery, so that a test can let events
// queue up.
class HeldReceiver {
 public:
  HeldReceiver() {
    queue_ = std::make_unique<EventQueue>([this](const CoreEvent& event) {
      if (received_.empty()) {
        entered_.set_value();
        open_.get_future().wait();
      }
      received_.push_back(event);
    });
    queue_->Post({.event = BH_EVENT_POISON, .call_id = 0});
    entered_.get_future().wait();
  }

  EventQueue& queue() { return *queue_; }

  // Everything that was delivered, without the first event, which only blocked the thread.
  std::vector<CoreEvent> Release() {
    open_.set_value();
    queue_.reset();
    return {received_.begin() + 1, received_.end()};
  }

 private:
  std::promise<void> entered_;
  std::promise<void> open_;
  std::vector<CoreEvent> received_;
  std::unique_ptr<EventQueue> queue_;
};

TEST(EventQueue, DeliversInOrderAndBeforeItEnds) {
  HeldReceiver receiver;
  receiver.queue().Post({.channel = 1, .event = BH_EVENT_HUNG, .generation = 3, .call_id = 7});
  receiver.queue().Post({.channel = 2, .event = BH_EVENT_VIOLATION, .detail = 4, .generation = 5});
  const std::vector<CoreEvent> received = receiver.Release();
  ASSERT_EQ(received.size(), 2u);
  EXPECT_EQ(received[0].channel, 1u);
  EXPECT_EQ(received[0].call_id, 7u);
  EXPECT_EQ(received[1].event, static_cast<uint32_t>(BH_EVENT_VIOLATION));
  EXPECT_EQ(received[1].detail, 4u);
}

TEST(EventQueue, ReportsOnceThatAGenerationIsOverdue) {
  HeldReceiver receiver;
  for (uint64_t call = 1; call <= 4000; ++call) {
    receiver.queue().Post({.event = BH_EVENT_HUNG, .generation = 3, .call_id = call});
  }
  receiver.queue().Post({.event = BH_EVENT_HUNG, .generation = 4, .call_id = 9});
  EXPECT_EQ(receiver.queue().dropped(), 0u);
  const std::vector<CoreEvent> received = receiver.Release();
  ASSERT_EQ(received.size(), 2u);
  EXPECT_EQ(received[0].call_id, 1u);
  EXPECT_EQ(received[1].generation, 4u);
}

TEST(EventQueue, AFloodOfPoisonLeavesRoomForWhatEndsAGeneration) {
  HeldReceiver receiver;
  for (uint64_t call = 1; call <= EventQueue::kCapacity; ++call) {
    receiver.queue().Post({.event = BH_EVENT_POISON, .call_id = call});
  }
  receiver.queue().Post({.event = BH_EVENT_VIOLATION, .generation = 1});
  EXPECT_EQ(receiver.queue().dropped(), EventQueue::kCapacity - EventQueue::kPoisonCapacity);
  const std::vector<CoreEvent> received = receiver.Release();
  ASSERT_EQ(received.size(), EventQueue::kPoisonCapacity + 1);
  EXPECT_EQ(received.back().event, static_cast<uint32_t>(BH_EVENT_VIOLATION));
}

}  // namespace
}  // namespace bulkhead
