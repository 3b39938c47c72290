// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_WATCHDOG_H_
#define BULKHEAD_BENCH_WATCHDOG_H_

#include <atomic>
#include <cstdint>

#include "bench/bounded_thread.h"
#include "bench/bounded_wait.h"

namespace bulkhead {

// Ends the program when a section of it has run into the bound: for waits in the kernel or in a
// loop that is measured, which can't have a bound of their own. A section costs two stores when it
// begins and one when it ends; what runs in it is not touched. The watchdog's thread looks four
// times in each bound, so a section ends after at most 5/4 of it.
//
// Sections are of one thread, one at a time.
class Watchdog {
 public:
  class [[nodiscard]] Section {
   public:
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;
    ~Section() { watchdog_.until_ns_.store(0); }

   private:
    friend class Watchdog;
    explicit Section(Watchdog& watchdog) : watchdog_(watchdog) {}
    Watchdog& watchdog_;
  };

  explicit Watchdog(uint64_t bound_ns = kWaitBoundNs);
  ~Watchdog();

  // From here to the end of the object. `what` as in "the end of a series of opens"; it must
  // outlive the section.
  Section Watch(const char* what);

 private:
  void Run();

  const uint64_t bound_ns_;
  std::atomic<const char*> what_{nullptr};
  std::atomic<uint64_t> until_ns_{0};  // 0: no section
  uint32_t stop_ = 0;                  // futex word
  BoundedThread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_WATCHDOG_H_
