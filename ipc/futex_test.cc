// SPDX-License-Identifier: Apache-2.0
#include "ipc/futex.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "ipc/abi/atomics.h"

namespace bulkhead {
namespace {

TEST(Futex, ReturnsAtOnceWhenTheWordDiffers) {
  const uint32_t word = 1;
  EXPECT_EQ(FutexWait(&word, 0, FutexScope::kPrivate, kForeverNs), FutexResult::kLookAgain);
}

TEST(Futex, TimesOutAtAnAbsoluteTime) {
  const uint32_t word = 0;
  const uint64_t until_ns = MonotonicAfterNs(2 * kNanosecondsPerMillisecond);
  while (FutexWait(&word, 0, FutexScope::kPrivate, until_ns) != FutexResult::kTimedOut) {
  }
  EXPECT_GE(MonotonicNowNs(), until_ns);
  // A wait until a time in the past does not sleep.
  EXPECT_EQ(FutexWait(&word, 0, FutexScope::kShared, 0), FutexResult::kTimedOut);
}

TEST(Futex, AfterNsSaturates) { EXPECT_EQ(MonotonicAfterNs(UINT64_MAX), kForeverNs); }

TEST(Futex, WakesAThread) {
  uint32_t word = 0;
  std::thread waiter([&] {
    while (bh_load_acquire(&word) == 0) {
      FutexWait(&word, 0, FutexScope::kPrivate, kForeverNs);
    }
  });
  bh_store_release(&word, 1u);
  FutexWake(&word, FutexScope::kPrivate, kFutexWakeAll);
  waiter.join();
  EXPECT_EQ(FutexWake(&word, FutexScope::kPrivate, 1), 0);
}

TEST(Futex, SharedScopeCrossesProcesses) {
  void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  uint32_t* words = static_cast<uint32_t*>(memory);
  const uint64_t until_ns = MonotonicAfterNs(10 * kNanosecondsPerSecond);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    while (bh_load_acquire(&words[0]) == 0) {
      if (FutexWait(&words[0], 0, FutexScope::kShared, until_ns) == FutexResult::kTimedOut) {
        _exit(1);
      }
    }
    _exit(0);
  }
  bh_store_release(&words[0], 1u);
  FutexWake(&words[0], FutexScope::kShared, kFutexWakeAll);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  munmap(memory, 4096);
}

}  // namespace
}  // namespace bulkhead
