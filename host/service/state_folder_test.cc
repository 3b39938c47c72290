// SPDX-License-Identifier: Apache-2.0
#include "host/service/state_folder.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace bulkhead {
namespace {

namespace fs = std::filesystem;
using ::testing::StartsWith;

class StateFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    base_ = testing::TempDir() + "/state-" + std::to_string(getpid());
    fs::remove_all(base_);
  }
  void TearDown() override { fs::remove_all(base_); }
  int Entries() const {
    return static_cast<int>(std::distance(fs::directory_iterator(base_), fs::directory_iterator()));
  }
  std::string base_;
};

// Hosts of root's are other users, and reach by its name what they are given.
TEST_F(StateFolderTest, CantBeListedByOthersAndGoesWithItsOwner) {
  {
    const absl::StatusOr<StateFolder> folder = StateFolder::CreateIn(base_ + "/below");
    ASSERT_TRUE(folder.ok()) << folder.status();
    EXPECT_THAT(folder->path(),
                StartsWith(base_ + "/below/instance-" + std::to_string(getpid()) + "-"));
    struct stat status = {};
    ASSERT_EQ(stat(folder->path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, geteuid() == 0 ? 0711u : 0700u);
    fs::create_directories(folder->path() + "/content/1");
    std::ofstream(folder->path() + "/content/1/rules") << "rule\n";
  }
  EXPECT_TRUE(fs::is_empty(base_ + "/below"));
}

TEST_F(StateFolderTest, SeveralLiveSideBySide) {
  absl::StatusOr<StateFolder> first = StateFolder::CreateIn(base_);
  absl::StatusOr<StateFolder> second = StateFolder::CreateIn(base_);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE(first->path(), second->path());
  const StateFolder moved = *std::move(first);
  const absl::StatusOr<StateFolder> third = StateFolder::CreateIn(base_);
  EXPECT_TRUE(fs::exists(moved.path()));
  EXPECT_EQ(Entries(), 3);
}

TEST_F(StateFolderTest, TheNextRemovesTheFolderOfAKilledInstance) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const absl::StatusOr<StateFolder> folder = StateFolder::CreateIn(base_);
    if (!folder.ok()) _exit(1);
    std::ofstream(folder->path() + "/rules") << "rule\n";
    (void)!write(ready[1], "\n", 1);
    for (;;) pause();
  }
  close(ready[1]);
  char line = 0;
  ASSERT_EQ(read(ready[0], &line, 1), 1);
  close(ready[0]);
  {
    const absl::StatusOr<StateFolder> beside = StateFolder::CreateIn(base_);
    EXPECT_EQ(Entries(), 2) << "it is alive";
  }
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(Entries(), 1);
  const absl::StatusOr<StateFolder> next = StateFolder::CreateIn(base_);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(Entries(), 1);
  EXPECT_TRUE(fs::exists(next->path()));
}

// Nothing but folders that an instance made is removed.
TEST_F(StateFolderTest, LeavesOtherFilesAlone) {
  { ASSERT_TRUE(StateFolder::CreateIn(base_).ok()); }
  fs::create_directories(base_ + "/releases");
  fs::create_directories(base_ + "-elsewhere/kept");
  fs::create_directory_symlink(base_ + "-elsewhere", base_ + "/instance-link00");
  std::ofstream(base_ + "/instance-file00") << "a file\n";
  EXPECT_EQ(RemoveFoldersOfTheDead(base_), 0);
  EXPECT_TRUE(fs::exists(base_ + "-elsewhere/kept"));
  EXPECT_TRUE(fs::exists(base_ + "/releases"));
  fs::remove_all(base_ + "-elsewhere");
}

// Many start and die at once: no living one loses its folder.
TEST_F(StateFolderTest, IsNotTakenForADeadOneWhileItStarts) {
  constexpr int kProcesses = 8, kRounds = 200;
  std::array<pid_t, kProcesses> children;
  for (pid_t& child : children) {
    child = fork();
    if (child != 0) continue;
    for (int round = 0; round < kRounds; ++round) {
      const absl::StatusOr<StateFolder> folder = StateFolder::CreateIn(base_);
      if (!folder.ok() || !fs::exists(folder->path())) _exit(1);
    }
    _exit(0);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  EXPECT_EQ(Entries(), 0);
}

TEST_F(StateFolderTest, AFolderOfOthersIsRefused) {
  fs::create_directories(base_);
  fs::permissions(base_, fs::perms::all);
  EXPECT_EQ(StateFolder::CreateIn(base_).status().code(), absl::StatusCode::kPermissionDenied);
}

// A user without a home that may be written to.
TEST_F(StateFolderTest, FallsBackToTheFolderOfTheRun) {
  if (geteuid() != 0) GTEST_SKIP() << "becomes another user: needs root";
  const pid_t child = fork();
  if (child == 0) {
    setenv("HOME", "/nonexistent", 1);
    unsetenv("XDG_STATE_HOME");
    unsetenv("XDG_RUNTIME_DIR");
    if (setresuid(65534, 65534, 65534) != 0) _exit(1);
    bool below_the_run = false;
    {
      const absl::StatusOr<StateFolder> folder = StateFolder::Create();
      below_the_run = folder.ok() && folder->path().starts_with("/tmp/bulkhead-65534/instance-");
    }
    rmdir("/tmp/bulkhead-65534");  // fails while others are there
    _exit(below_the_run ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace bulkhead
