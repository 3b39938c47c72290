// SPDX-License-Identifier: Apache-2.0
//
// Futex waits and wakes with absolute deadlines on CLOCK_MONOTONIC.
//
// A wake is a hint: FutexWait also returns for spurious reasons, so the caller checks its own
// condition again. No wake-up is lost in this order: the waiter announces itself, fences
// (bh_fence), checks the condition again, waits; the waker changes the condition, fences, checks
// for the announcement, changes the word, wakes.
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

// Sleeps while *word == expected, until a wake or until_ns (absolute, kForeverNs: no limit). Any
// thread. Never fails: a word that can't be waited on is a bug in our code and ends the process.
FutexResult FutexWait(const uint32_t* word, uint32_t expected, FutexScope scope, uint64_t until_ns);

// Sleeps while *shared == expected and *own == 0, until a wake of either. `own` belongs to this
// process: a hostile process that shares the other word, and may move its sleepers to a third word,
// can't prevent a wake through `own`. False: this kernel can't wait on two words (Linux before
// 5.16), or `shared` is not mapped. Any thread.
bool FutexWaitEither(const uint32_t* shared, uint32_t expected, const uint32_t* own);

inline constexpr int kFutexWakeAll = INT_MAX;

// Wakes up to `waiters` threads that sleep on the word; returns how many it woke.
int FutexWake(uint32_t* word, FutexScope scope, int waiters);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_FUTEX_H_
