// SPDX-License-Identifier: Apache-2.0
#include "ipc/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "ipc/check.h"

namespace bulkhead {
namespace {

int Operation(int operation, FutexScope scope) {
  return scope == FutexScope::kPrivate ? operation | FUTEX_PRIVATE_FLAG : operation;
}

}  // namespace

FutexResult FutexWait(const uint32_t* word, uint32_t expected, FutexScope scope,
                      uint64_t until_ns) {
  timespec until;
  const timespec* until_pointer = nullptr;
  if (until_ns != kForeverNs) {
    until.tv_sec = static_cast<time_t>(until_ns / kNanosecondsPerSecond);
    until.tv_nsec = static_cast<long>(until_ns % kNanosecondsPerSecond);
    until_pointer = &until;
  }
  // FUTEX_WAIT_BITSET takes an absolute time, FUTEX_WAIT a relative one.
  const long result = syscall(SYS_futex, word, Operation(FUTEX_WAIT_BITSET, scope), expected,
                              until_pointer, nullptr, FUTEX_BITSET_MATCH_ANY);
  if (result == 0 || errno == EAGAIN || errno == EINTR) return FutexResult::kLookAgain;
  BULKHEAD_CHECK(errno == ETIMEDOUT);
  return FutexResult::kTimedOut;
}

bool FutexWaitEither(const uint32_t* shared, uint32_t expected, const uint32_t* own) {
  futex_waitv words[2] = {};
  words[0].uaddr = reinterpret_cast<uint64_t>(shared);
  words[0].val = expected;
  words[0].flags = FUTEX_32;
  words[1].uaddr = reinterpret_cast<uint64_t>(own);
  words[1].val = 0;
  words[1].flags = FUTEX_32 | FUTEX_PRIVATE_FLAG;
  const long result = syscall(SYS_futex_waitv, words, 2, 0, nullptr, CLOCK_MONOTONIC);
  return result >= 0 || errno == EAGAIN || errno == EINTR;
}

int FutexWake(uint32_t* word, FutexScope scope, int waiters) {
  const long woken =
      syscall(SYS_futex, word, Operation(FUTEX_WAKE, scope), waiters, nullptr, nullptr, 0);
  BULKHEAD_CHECK(woken >= 0);
  return static_cast<int>(woken);
}

}  // namespace bulkhead
