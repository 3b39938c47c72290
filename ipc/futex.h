// SPDX-License-Identifier: Apache-2.0
//
// Futex waits and wakes with absolute deadlines on CLOCK_MONOTONIC.
//
// A wake is a hint: FutexWait returns for spurious reasons too, so the caller looks at its own
// condition again. The order that loses no wake-up: the waiter announces itself, fences (bh_fence),
// looks at the condition again, waits; the waker changes the condition, fences, looks for the
// announcement, changes the word, wakes.
#ifndef BULKHEAD_IPC_FUTEX_H_
#define BULKHEAD_IPC_FUTEX_H_

#include <climits>
#include <cstdint>

#include "ipc/monotonic.h"

namespace bulkhead {

enum class FutexScope {
  kPrivate,  // the word is used by this process only: cheaper
  kShared,   // the word is in memory shared with other processes
};

enum class FutexResult {
  kLookAgain,  // woken, interrupted by a signal, or the word was not `expected` any more
  kTimedOut,   // until_ns is past
};

// Sleeps while *word == expected, until a wake or until_ns (absolute, kForeverNs: no limit).
// Any thread. Never fails: a word that can't be waited on is a bug of ours and ends the process.
FutexResult FutexWait(const uint32_t* word, uint32_t expected, FutexScope scope, uint64_t until_ns);

// Sleeps while *shared == expected and *own == 0, until a wake of either: `own` is this process's,
// so that one who shares the other word, and may move who sleeps on it to a third, can't keep us.
// False: this kernel (Linux before 5.16) can't, or `shared` has no memory. Any thread.
bool FutexWaitEither(const uint32_t* shared, uint32_t expected, const uint32_t* own);

inline constexpr int kFutexWakeAll = INT_MAX;

// Wakes up to `waiters` threads that sleep on the word; returns how many there were.
int FutexWake(uint32_t* word, FutexScope scope, int waiters);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_FUTEX_H_
