// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/directory_walk.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "host/attachment/place.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

UniqueFd OpenDirectory(const std::string& path) {
  return UniqueFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

class DirectoryWalkTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/walk-XXXXXX";
    ASSERT_NE(mkdtemp(path_.data()), nullptr) << std::strerror(errno);
    walk_.visit = [this](int directory) {
      const absl::StatusOr<DirectoryId> id = IdOf(directory);
      if (!id.ok()) return id.status();
      visited_.insert(id->inode);
      return on_visit_ ? on_visit_(directory) : absl::OkStatus();
    };
    walk_.failed = [this](const std::string& where, const absl::Status& status) {
      failed_.push_back(where + ": " + std::string(status.message()));
    };
  }
  void TearDown() override {
    // std::filesystem gives up where paths get too long.
    const std::string command = "rm -rf '" + path_ + "'";
    ASSERT_EQ(std::system(command.c_str()), 0);
  }

  // A chain of `levels` directories below `from`.
  static UniqueFd Dig(UniqueFd from, int levels, const std::string& name) {
    for (int i = 0; i < levels && from.valid(); ++i) {
      if (mkdirat(from.get(), name.c_str(), 0700) != 0) return UniqueFd();
      from.reset(openat(from.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    return from;
  }
  absl::Status Walk() { return WalkDirectories(OpenDirectory(path_).get(), walk_); }
  bool Visited(const std::string& path) {
    const absl::StatusOr<DirectoryId> id = IdOf(OpenDirectory(path).get());
    return id.ok() && visited_.count(id->inode) == 1;
  }

  std::string path_;
  DirectoryWalk walk_;
  std::function<absl::Status(int)> on_visit_;
  std::set<uint64_t> visited_;
  std::vector<std::string> failed_;
};

TEST_F(DirectoryWalkTest, VisitsTheRootAndAllBelowIt) {
  std::filesystem::create_directories(path_ + "/a/b/c");
  std::filesystem::create_directories(path_ + "/a/d");
  std::filesystem::create_directories(path_ + "/.e");
  EXPECT_TRUE(Walk().ok());
  EXPECT_THAT(visited_, SizeIs(6));
  EXPECT_TRUE(Visited(path_));
  EXPECT_TRUE(Visited(path_ + "/a/b/c"));
  EXPECT_TRUE(Visited(path_ + "/.e"));
  EXPECT_TRUE(failed_.empty());
}

TEST_F(DirectoryWalkTest, FollowsNoSymbolicLink) {
  std::filesystem::create_directories(path_ + "/in");
  std::filesystem::create_directory_symlink("/usr", path_ + "/in/out");
  std::filesystem::create_directory_symlink("..", path_ + "/in/loop");
  EXPECT_TRUE(Walk().ok());
  EXPECT_THAT(visited_, SizeIs(2));
  EXPECT_TRUE(failed_.empty());
}

// Deeper than the descriptors that it keeps, and with a path that no system call takes.
TEST_F(DirectoryWalkTest, GoesAsDeepAsThereIsATree) {
  constexpr int kLevels = 1000;
  const std::string name(50, 'd');
  ASSERT_GT(kLevels * (name.size() + 1), size_t{PATH_MAX});
  ASSERT_TRUE(Dig(OpenDirectory(path_), kLevels, name).valid());
  // Beside each other at the top, so that it has to come all the way back.
  std::filesystem::create_directory(path_ + "/first");
  std::filesystem::create_directory(path_ + "/last");
  EXPECT_TRUE(Walk().ok());
  EXPECT_THAT(visited_, SizeIs(kLevels + 3));
  EXPECT_TRUE(failed_.empty());
}

// The directory in which it is goes elsewhere, far below the levels that stay open. What is beside
// the old place is visited all the same.
TEST_F(DirectoryWalkTest, BeginsAnewWhenADeepDirectoryIsMovedAway) {
  const UniqueFd deep = Dig(OpenDirectory(path_), 300, "d");
  ASSERT_TRUE(deep.valid());
  const UniqueFd bottom = Dig(UniqueFd(dup(deep.get())), 5, "e");
  ASSERT_TRUE(bottom.valid());
  ASSERT_EQ(mkdirat(deep.get(), "beside", 0700), 0);
  const absl::StatusOr<DirectoryId> at_bottom = IdOf(bottom.get());
  ASSERT_TRUE(at_bottom.ok());
  std::filesystem::create_directory(path_ + "/elsewhere");
  bool moved = false;
  on_visit_ = [&](int directory) {
    const absl::StatusOr<DirectoryId> id = IdOf(directory);
    if (!moved && id.ok() && *id == *at_bottom) {
      moved = true;
      EXPECT_EQ(renameat(deep.get(), "e", OpenDirectory(path_ + "/elsewhere").get(), "e"), 0);
    }
    return absl::OkStatus();
  };
  EXPECT_TRUE(Walk().ok());
  EXPECT_TRUE(moved);
  EXPECT_THAT(visited_, SizeIs(1 + 300 + 5 + 2));
}

TEST_F(DirectoryWalkTest, WhatFailsIsNamedAndItsNeighboursAreVisited) {
  std::filesystem::create_directories(path_ + "/a/bad/below");
  std::filesystem::create_directories(path_ + "/a/good/below");
  const absl::StatusOr<DirectoryId> bad = IdOf(OpenDirectory(path_ + "/a/bad").get());
  ASSERT_TRUE(bad.ok());
  on_visit_ = [&](int directory) {
    return *IdOf(directory) == *bad ? absl::InternalError("no mark") : absl::OkStatus();
  };
  EXPECT_TRUE(Walk().ok());
  EXPECT_TRUE(Visited(path_ + "/a/good/below"));
  EXPECT_FALSE(Visited(path_ + "/a/bad/below"));
  EXPECT_EQ(failed_, std::vector<std::string>{"a/bad: no mark"});
}

TEST_F(DirectoryWalkTest, AnErrorOfTheRootAndOneOfRoomEndIt) {
  std::filesystem::create_directories(path_ + "/a");
  on_visit_ = [](int) { return absl::InternalError("no root"); };
  EXPECT_THAT(std::string(Walk().message()), HasSubstr("no root"));
  int visits = 0;
  on_visit_ = [&](int) {
    return ++visits == 2 ? absl::ResourceExhaustedError("no room") : absl::OkStatus();
  };
  EXPECT_THAT(std::string(Walk().message()), HasSubstr("no room"));
  EXPECT_TRUE(failed_.empty());
}

}  // namespace
}  // namespace bulkhead
