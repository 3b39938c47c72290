// SPDX-License-Identifier: Apache-2.0
#include "ipc/abi/end.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <set>

namespace {

// The same in user mode and in the kernel module: both call this function.
TEST(EndOfExit, SignalsFromOutsideAreKills) {
  const std::set<int> from_outside = {SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
  for (int signal = 1; signal < NSIG; ++signal) {
    const bh_end wanted = from_outside.count(signal) != 0 ? BH_END_KILLED : BH_END_CRASHED;
    EXPECT_EQ(bh_end_of_exit(W_EXITCODE(0, signal)), wanted) << signal;
    EXPECT_EQ(bh_end_of_exit(W_EXITCODE(0, signal) | WCOREFLAG), wanted) << signal;
  }
}

// What the handlers of a host exit with, and shells.
TEST(EndOfExit, AnExitCodeMayStandForASignal) {
  EXPECT_EQ(bh_end_of_exit(W_EXITCODE(128 + SIGTERM, 0)), BH_END_KILLED);
  EXPECT_EQ(bh_end_of_exit(W_EXITCODE(128 + SIGINT, 0)), BH_END_KILLED);
  EXPECT_EQ(bh_end_of_exit(W_EXITCODE(128 + SIGSEGV, 0)), BH_END_CRASHED);
  EXPECT_EQ(bh_signal_of_exit(W_EXITCODE(128 + SIGABRT, 0)), SIGABRT);
  EXPECT_EQ(bh_signal_of_exit(W_EXITCODE(0, SIGABRT) | WCOREFLAG), SIGABRT);
  for (const int none : {0, 1, 127, 128, 128 + SIGTERM + 1, 255}) {
    EXPECT_EQ(bh_signal_of_exit(W_EXITCODE(none, 0)), 0) << none;
  }
}

TEST(EndOfExit, OnlyExitCodeZeroIsAStop) {
  EXPECT_EQ(bh_end_of_exit(W_EXITCODE(0, 0)), BH_END_STOPPED);
  for (int code = 1; code < 256; ++code) {
    EXPECT_NE(bh_end_of_exit(W_EXITCODE(code, 0)), BH_END_STOPPED) << code;
    if (bh_signal_of_exit(W_EXITCODE(code, 0)) == 0) {
      EXPECT_EQ(bh_end_of_exit(W_EXITCODE(code, 0)), BH_END_CRASHED) << code;
    }
  }
}

}  // namespace
