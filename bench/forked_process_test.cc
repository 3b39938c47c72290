// SPDX-License-Identifier: Apache-2.0
#include "bench/forked_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kShortNs = 50 * kNanosecondsPerMillisecond;

[[noreturn]] void NeverEnd() {
  for (;;) pause();
}

bool IsGone(pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; }

TEST(ForkedProcessTest, JoinsAChildThatEnds) {
  absl::StatusOr<ForkedProcess> child = ForkedProcess::Start([] {});
  ASSERT_TRUE(child.ok()) << child.status();
  const pid_t pid = child->pid();
  EXPECT_TRUE(child->Join("a child").ok());
  EXPECT_TRUE(IsGone(pid));
  EXPECT_EQ(child->pid(), -1);
  EXPECT_FALSE(child->Join("a child").ok());
  child->End();  // nothing
}

TEST(ForkedProcessTest, AChildThatNeverEndsIsAnErrorWithinTheBoundAndIsGone) {
  absl::StatusOr<ForkedProcess> child = ForkedProcess::Start(&NeverEnd);
  ASSERT_TRUE(child.ok()) << child.status();
  const pid_t pid = child->pid();
  const absl::Status ended = child->Join("a caller", kShortNs);
  EXPECT_TRUE(absl::IsDeadlineExceeded(ended));
  EXPECT_THAT(std::string(ended.message()),
              HasSubstr(absl::StrCat("a caller, process ", pid, ", did not end within 0.05 s")));
  EXPECT_TRUE(IsGone(pid));
}

// Not even a stop keeps it.
TEST(ForkedProcessTest, AStoppedChildIsGoneToo) {
  absl::StatusOr<ForkedProcess> child = ForkedProcess::Start([] { raise(SIGSTOP); });
  ASSERT_TRUE(child.ok()) << child.status();
  const pid_t pid = child->pid();
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_TRUE(absl::IsDeadlineExceeded(child->Join("a caller", kShortNs)));
  EXPECT_TRUE(IsGone(pid));
}

TEST(ForkedProcessTest, SaysHowAChildEnded) {
  absl::StatusOr<ForkedProcess> failed = ForkedProcess::Start([] { _exit(7); });
  ASSERT_TRUE(failed.ok()) << failed.status();
  EXPECT_THAT(std::string(failed->Join("a caller").message()),
              HasSubstr("a caller ended with code 7"));
  absl::StatusOr<ForkedProcess> killed = ForkedProcess::Start([] { raise(SIGKILL); });
  ASSERT_TRUE(killed.ok()) << killed.status();
  EXPECT_THAT(std::string(killed->Join("a caller").message()),
              HasSubstr("a caller ended by signal 9"));
}

TEST(ForkedProcessTest, ReapsWhatEnds) {
  for (int i = 0; i < 3; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) _exit(0);
  }
  EXPECT_TRUE(ReapChildren("the end of the servers").ok());
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(ForkedProcessTest, KillsByIdAndNamesWhatDoesNotEnd) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    NeverEnd();
  }
  const absl::Status reaped = ReapChildren("the end of the servers", kShortNs);
  EXPECT_TRUE(absl::IsDeadlineExceeded(reaped));
  EXPECT_THAT(std::string(reaped.message()), AllOf(HasSubstr("the end of the servers did not come"),
                                                   HasSubstr(absl::StrCat(" ", child))));
  EXPECT_TRUE(IsGone(child));
}

}  // namespace
}  // namespace bulkhead
