// SPDX-License-Identifier: Apache-2.0
//
// Killer: ends a process with SIGKILL again and again, and measures how long it takes until the
// first call that began after the death was answered, which only its successor can do.
//
// Threads: Run() on one thread; Completed() from any.
#ifndef BULKHEAD_TESTS_STORM_KILLER_H_
#define BULKHEAD_TESTS_STORM_KILLER_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace bulkhead {

class Killer {
 public:
  // `victim` gives the process to kill, or 0 or less when there is none now.
  Killer(std::function<pid_t()> victim, uint64_t every_ns)
      : victim_(std::move(victim)), every_ns_(every_ns) {}

  // Kills until `kills_max` are done or `done` is set. A victim is killed only after its
  // predecessor's death was followed by an answered call: each kill has its recovery.
  void Run(uint64_t kills_max, const std::atomic<bool>& done);

  // A call that began at started_ns was answered by now.
  void Completed(uint64_t started_ns, uint64_t ended_ns);

  uint64_t kills() const { return kills_.load(); }
  // From the kill to the answer of the first call that began after the death, in milliseconds.
  std::vector<double> recoveries_ms() const;

 private:
  const std::function<pid_t()> victim_;
  const uint64_t every_ns_;
  std::atomic<uint64_t> kills_{0};
  // Not 0 while an answer is waited for: when the victim was seen dead.
  std::atomic<uint64_t> dead_ns_{0};
  std::atomic<uint64_t> killed_ns_{0};
  mutable std::mutex mutex_;
  std::vector<double> recoveries_ms_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_STORM_KILLER_H_
