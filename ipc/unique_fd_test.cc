// SPDX-License-Identifier: Apache-2.0
#include "ipc/unique_fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, ClosesWhatItOwnsOnce) {
  int raw = -1;
  {
    UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = fd.get();
    ASSERT_TRUE(IsOpen(raw));
    UniqueFd moved = std::move(fd);
    // NOLINTNEXTLINE(bugprone-use-after-move,clang-analyzer-cplusplus.Move): what is tested
    EXPECT_FALSE(fd.valid());
    EXPECT_EQ(moved.get(), raw);
    EXPECT_TRUE(IsOpen(raw));
  }
  EXPECT_FALSE(IsOpen(raw));
}

TEST(UniqueFd, ReleaseGivesItAway) {
  UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int raw = fd.release();
  fd.reset();
  EXPECT_TRUE(IsOpen(raw));
  close(raw);
}

TEST(UniqueFd, AssignmentToItselfKeepsIt) {
  UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd& same = fd;
  fd = std::move(same);
  EXPECT_TRUE(IsOpen(fd.get()));
}

TEST(UniqueFd, ResetKeepsErrno) {
  UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  errno = ENOSPC;
  fd.reset();
  EXPECT_EQ(errno, ENOSPC);
}

TEST(UniqueFd, DuplicateIsOfTheSameFileAndClosesOnExec) {
  UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  auto copy = fd.Duplicate();
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_NE(copy->get(), fd.get());
  EXPECT_EQ(fcntl(copy->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  struct stat a, b;
  ASSERT_EQ(fstat(fd.get(), &a), 0);
  ASSERT_EQ(fstat(copy->get(), &b), 0);
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(UniqueFd().Duplicate().status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace bulkhead
