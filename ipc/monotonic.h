// SPDX-License-Identifier: Apache-2.0
//
// The only clock for deadlines: CLOCK_MONOTONIC in nanoseconds, the same in every process of the
// machine, so that a deadline can cross a process boundary as a number.
#ifndef BULKHEAD_IPC_MONOTONIC_H_
#define BULKHEAD_IPC_MONOTONIC_H_

#include <time.h>

#include <cstdint>

namespace bulkhead {

inline constexpr uint64_t kNanosecondsPerMillisecond = 1'000'000;
inline constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

// For waits that another event bounds (a stop, a peer's death). Absolute times saturate here.
inline constexpr uint64_t kForeverNs = UINT64_MAX;

inline uint64_t MonotonicNowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNanosecondsPerSecond +
         static_cast<uint64_t>(now.tv_nsec);
}

// The same clock at its last tick: never ahead, up to 10 ms behind, and four times cheaper to read.
inline uint64_t MonotonicCoarseNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNanosecondsPerSecond +
         static_cast<uint64_t>(now.tv_nsec);
}

inline uint64_t SaturatingAddNs(uint64_t time_ns, uint64_t span_ns) {
  return span_ns > kForeverNs - time_ns ? kForeverNs : time_ns + span_ns;
}

// The absolute time `span_ns` from now.
inline uint64_t MonotonicAfterNs(uint64_t span_ns) {
  return SaturatingAddNs(MonotonicNowNs(), span_ns);
}

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_MONOTONIC_H_
