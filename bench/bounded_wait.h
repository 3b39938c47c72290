// SPDX-License-Identifier: Apache-2.0
//
// The waits of a benchmark for its other process or thread. A wait that runs into its bound is an
// error and says what did not come: the figures of a benchmark that goes on are those of its
// timeouts. Most of these end the program with exit code 2, and its other processes end with it.
//
// A child's own waits have no bound: the benchmark's wait for the child has one, and the child ends
// with the benchmark.
//
// More waits: for the end of a process (forked_process.h) and of a thread (bounded_thread.h). What
// waits without a bound of its own, as open(2) of a guarded file does, is watched (watchdog.h).
#ifndef BULKHEAD_BENCH_BOUNDED_WAIT_H_
#define BULKHEAD_BENCH_BOUNDED_WAIT_H_

#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ipc/abi/atomics.h"
#include "ipc/futex.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"

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
void SpinUntil(const char* what, Done done, uint64_t bound_ns = kWaitBoundNs) {
  constexpr uint32_t kPollsPerLook = 1u << 20;
  for (uint64_t until_ns = 0;;) {
    for (uint32_t polls = 0; polls < kPollsPerLook; ++polls) {
      if (done()) return;
      bh_cpu_relax();
    }
    const uint64_t now_ns = MonotonicNowNs();
    if (until_ns == 0) until_ns = now_ns + bound_ns;
    if (now_ns > until_ns) WaitFailed(what);
  }
}

// The same, and leaves the CPU to others meanwhile.
template <typename Done>
void YieldUntil(const char* what, Done done, uint64_t bound_ns = kWaitBoundNs) {
  const uint64_t until_ns = MonotonicAfterNs(bound_ns);
  while (!done()) {
    sched_yield();
    if (MonotonicNowNs() > until_ns) WaitFailed(what);
  }
}

// Sleeps until the shared word is no longer `old`.
inline void SleepUntilChanged(const char* what, const uint32_t* word, uint32_t old,
                              uint64_t bound_ns = kWaitBoundNs) {
  const uint64_t until_ns = MonotonicAfterNs(bound_ns);
  while (bh_load_acquire(word) == old) {
    FutexWait(word, old, FutexScope::kShared, until_ns);
    if (bh_load_acquire(word) == old && MonotonicNowNs() > until_ns) WaitFailed(what);
  }
}

inline absl::Status DidNotCome(const char* what, uint64_t bound_ns) {
  return absl::DeadlineExceededError(
      absl::StrCat(what, " did not come within ", static_cast<double>(bound_ns) / 1e9, " s"));
}

// Until poll(2) of the descriptor finds it readable or closed at the other end. DeadlineExceeded.
inline absl::Status AwaitReadable(const char* what, int fd, uint64_t bound_ns = kWaitBoundNs) {
  return PollUntil(fd, POLLIN, MonotonicAfterNs(bound_ns)) ? absl::OkStatus()
                                                           : DidNotCome(what, bound_ns);
}

// One byte, which says that what was awaited has happened. Aborted: the other end was closed first.
inline absl::Status AwaitByte(const char* what, int fd, uint64_t bound_ns = kWaitBoundNs) {
  if (absl::Status status = AwaitReadable(what, fd, bound_ns); !status.ok()) return status;
  char byte;
  if (read(fd, &byte, 1) == 1) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat(what, " did not come: the other process has ended"));
}

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_BOUNDED_WAIT_H_
