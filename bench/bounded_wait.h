// SPDX-License-Identifier: Apache-2.0
//
// The waits of a benchmark for its other process or thread. A wait that runs into its bound ends
// the program with exit code 2 and says what did not come: the figures of one that goes on are
// those of its timeouts. The other processes of a benchmark end with it.
#ifndef BULKHEAD_BENCH_BOUNDED_WAIT_H_
#define BULKHEAD_BENCH_BOUNDED_WAIT_H_

#include <sched.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

#include "ipc/abi/atomics.h"
#include "ipc/futex.h"
#include "ipc/monotonic.h"

namespace bulkhead {

inline constexpr uint64_t kWaitBoundNs = 20 * kNanosecondsPerSecond;
inline constexpr int kExitWaitFailed = 2;

[[noreturn]] inline void WaitFailed(const char* what) {
  std::fprintf(stderr, "benchmark: %s did not come within its bound; nothing was measured\n", what);
  std::fflush(stderr);
  _exit(kExitWaitFailed);
}

// Spins until done() is true. It looks at the clock once in kPollsPerLook turns: what is measured
// is the line that done() reads.
template <typename Done>
void SpinUntil(const char* what, Done done) {
  constexpr uint32_t kPollsPerLook = 1u << 20;
  for (uint64_t until_ns = 0;;) {
    for (uint32_t polls = 0; polls < kPollsPerLook; ++polls) {
      if (done()) return;
      bh_cpu_relax();
    }
    const uint64_t now_ns = MonotonicNowNs();
    if (until_ns == 0) until_ns = now_ns + kWaitBoundNs;
    if (now_ns > until_ns) WaitFailed(what);
  }
}

// The same, and leaves the CPU to others meanwhile.
template <typename Done>
void YieldUntil(const char* what, Done done) {
  const uint64_t until_ns = MonotonicAfterNs(kWaitBoundNs);
  while (!done()) {
    sched_yield();
    if (MonotonicNowNs() > until_ns) WaitFailed(what);
  }
}

// Sleeps until the shared word is no longer `old`.
inline void SleepUntilChanged(const char* what, uint32_t* word, uint32_t old) {
  const uint64_t until_ns = MonotonicAfterNs(kWaitBoundNs);
  while (bh_load_acquire(word) == old) {
    FutexWait(word, old, FutexScope::kShared, until_ns);
    if (bh_load_acquire(word) == old && MonotonicNowNs() > until_ns) WaitFailed(what);
  }
}

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_BOUNDED_WAIT_H_
