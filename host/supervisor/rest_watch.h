// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_REST_WATCH_H_
#define BULKHEAD_HOST_SUPERVISOR_REST_WATCH_H_

#include <cstdint>
#include <optional>

namespace bulkhead {

// RestWatch: whether a host that answered its last ping has slept ever since. Its first thread
// slept when the ping came, and has gone to sleep once since: behind its answer, to wait for the
// next word. As long as it has not run again it waits there, and to ask it would show nothing and
// wake it.
//
// A stop or a freeze makes it run or changes what it is seen to do; then it does not rest.
//
// `sleeps` is Spawner::SleepCount(). Not thread-safe.
class RestWatch {
 public:
  void Pinged(uint64_t number, std::optional<uint64_t> sleeps) {
    number_ = number;
    answered_ = false;
    rests_at_ = sleeps;
    if (rests_at_) ++*rests_at_;
  }
  void Answered(uint64_t number) { answered_ = answered_ || number == number_; }
  bool Rests(std::optional<uint64_t> sleeps) const {
    return answered_ && sleeps.has_value() && sleeps == rests_at_;
  }

 private:
  uint64_t number_ = 0;
  bool answered_ = false;
  std::optional<uint64_t> rests_at_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_REST_WATCH_H_
