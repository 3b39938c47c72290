// SPDX-License-Identifier: Apache-2.0
#include "bench/bounded_wait.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bench/bounded_thread.h"
#include "bench/watchdog.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

using ::testing::ExitedWithCode;
using ::testing::HasSubstr;

constexpr uint64_t kShortNs = 50 * kNanosecondsPerMillisecond;

bool Never() { return false; }

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    out.reset(ends[0]);
    in.reset(ends[1]);
  }
  UniqueFd out, in;
};

TEST(BoundedWaitTest, EndsWhenWhatItWaitsForComes) {
  SpinUntil("a", [] { return true; });
  YieldUntil("b", [] { return true; });
  uint32_t word = 0;
  BoundedThread changes;
  changes.Start([&word] {
    bh_store_release(&word, 1u);
    FutexWake(&word, FutexScope::kShared, 1);
  });
  SleepUntilChanged("c", &word, 0);
  changes.Join("d");
  Pipe pipe;
  ASSERT_EQ(write(pipe.in.get(), "x", 1), 1);
  EXPECT_TRUE(AwaitByte("e", pipe.out.get()).ok());
}

TEST(BoundedWaitTest, AByteThatDoesNotComeIsAnErrorThatNamesIt) {
  Pipe pipe;
  const absl::Status late = AwaitByte("the start of a host", pipe.out.get(), kShortNs);
  EXPECT_TRUE(absl::IsDeadlineExceeded(late));
  EXPECT_THAT(std::string(late.message()), HasSubstr("the start of a host did not come"));
  pipe.in.reset();
  const absl::Status closed = AwaitByte("the start of a host", pipe.out.get());
  EXPECT_TRUE(absl::IsAborted(closed));
  EXPECT_THAT(std::string(closed.message()), HasSubstr("the start of a host did not come"));
}

// The others end the program, each in a process of the test.
TEST(BoundedWaitDeathTest, WhatDoesNotComeEndsTheProgramAndIsNamed) {
  const uint32_t word = 0;
  const std::vector<std::pair<const char*, std::function<void()>>> waits = {
      {"spinning", [] { SpinUntil("the thing", Never, 1); }},
      {"yielding", [] { YieldUntil("the thing", Never, kShortNs); }},
      {"sleeping", [&word] { SleepUntilChanged("the thing", &word, 0, kShortNs); }},
      {"joining",
       [] {
         BoundedThread sleeper;
         sleeper.Start([] { pause(); });
         sleeper.Join("the thing", kShortNs);
       }},
      {"watched",
       [] {
         Watchdog watchdog(kShortNs);
         const Watchdog::Section section = watchdog.Watch("the thing");
         pause();
       }},
  };
  for (const auto& [name, wait] : waits) {
    SCOPED_TRACE(name);
    EXPECT_EXIT(wait(), ExitedWithCode(kExitWaitFailed), "the thing did not come within its bound");
  }
}

// A section that has ended is not one that lasts: the bound passes behind it.
TEST(WatchdogTest, DoesNotWatchBetweenSections) {
  constexpr uint64_t kBoundNs =
      kNanosecondsPerSecond / 2;  // a section that does nothing is shorter
  Watchdog watchdog(kBoundNs);
  const Pipe never;
  { const Watchdog::Section section = watchdog.Watch("a section that ends"); }
  EXPECT_TRUE(absl::IsDeadlineExceeded(AwaitByte("a byte", never.out.get(), 3 * kBoundNs)));
}

}  // namespace
}  // namespace bulkhead
