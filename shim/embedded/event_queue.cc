// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/event_queue.h"

#include <utility>

#include "shim/core/bulkhead_core.h"

namespace bulkhead {

EventQueue::EventQueue(std::function<void(const CoreEvent&)> deliver)
    : deliver_(std::move(deliver)), thread_([this] { Run(); }) {}

EventQueue::~EventQueue() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  posted_.notify_one();
  thread_.join();
}

void EventQueue::Post(const CoreEvent& event) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (IsQueuedLocked(event)) return;
    const size_t room = event.event == BH_EVENT_POISON ? kPoisonCapacity : kCapacity;
    if (count_ >= room) {
      ++dropped_;
      return;
    }
    ring_[(first_ + count_) % kCapacity] = event;
    ++count_;
  }
  posted_.notify_one();
}

uint64_t EventQueue::dropped() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return dropped_;
}

bool EventQueue::IsQueuedLocked(const CoreEvent& event) const {
  if (event.event == BH_EVENT_POISON) return false;  // each is about another call
  for (size_t i = 0; i < count_; ++i) {
    const CoreEvent& queued = ring_[(first_ + i) % kCapacity];
    if (queued.event == event.event && queued.channel == event.channel &&
        queued.generation == event.generation) {
      return true;
    }
  }
  return false;
}

void EventQueue::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    posted_.wait(lock, [this] { return count_ > 0 || stop_; });
    if (count_ == 0) return;
    const CoreEvent event = ring_[first_];
    first_ = (first_ + 1) % kCapacity;
    --count_;
    lock.unlock();
    deliver_(event);
    lock.lock();
  }
}

}  // namespace bulkhead
