// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_IDLE_WATCH_H_
#define BULKHEAD_HOST_SUPERVISOR_IDLE_WATCH_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

namespace bulkhead {

// IdleWatch: whether a host that answered its last ping has slept ever since. Its first thread
// slept when the ping came, and has gone to sleep once since: after its answer, to wait for the
// next message. As long as it has not run again it waits there; another ping would show nothing
// and wake it.
//
// A stop or a freeze makes the thread run or changes its state; then the host is not idle.
//
// `sleeps` is Spawner::SleepCount(). Not thread-safe.
class IdleWatch {
 public:
  void Pinged(uint64_t number, std::optional<uint64_t> sleeps) {
    number_ = number;
    answered_ = false;
    if (unanswered_.size() == kUnansweredMax) unanswered_.pop_front();
    unanswered_.push_back(number);
    idle_at_ = sleeps;
    if (idle_at_) ++*idle_at_;
  }
  // Answers to pings of a number below are those to another service, which is gone.
  void IgnoreBelow(uint64_t number) { others_below_ = number; }
  // False when that is no answer: the number of no ping, or of one that was answered, or passed
  // over, before.
  bool Answered(uint64_t number) {
    if (number < others_below_) return true;
    const auto ping = std::find(unanswered_.begin(), unanswered_.end(), number);
    if (ping == unanswered_.end()) return false;
    unanswered_.erase(unanswered_.begin(), ping + 1);
    answered_ = number == number_;
    return true;
  }
  bool Idle(std::optional<uint64_t> sleeps) const {
    return answered_ && sleeps.has_value() && sleeps == idle_at_;
  }

 private:
  static constexpr size_t kUnansweredMax = 256;  // a host that owes more has missed its heartbeat

  uint64_t others_below_ = 0;
  uint64_t number_ = 0;              // of the last ping
  std::deque<uint64_t> unanswered_;  // in the order in which they were sent
  bool answered_ = false;
  std::optional<uint64_t> idle_at_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_IDLE_WATCH_H_
