// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/host_user.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class HostUserTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/host-user-test-", getpid());
    std::filesystem::create_directories(folder_ + "/open");
    std::ofstream(folder_ + "/open/library") << "x";
    for (const char* path : {"", "/open", "/open/library"}) Mode(path, 0755);
    if (!IsOpenToOthers(folder_).ok()) GTEST_SKIP() << IsOpenToOthers(folder_);
  }
  void TearDown() override {
    Mode("", 0755);
    std::filesystem::remove_all(folder_);
  }
  void Mode(const std::string& path, mode_t mode) {
    ASSERT_EQ(chmod((folder_ + path).c_str(), mode), 0);
  }
  std::string folder_;
};

TEST_F(HostUserTest, AFileIsOpenWhenItAndAllFoldersToItAre) {
  EXPECT_TRUE(IsOpenToOthers(folder_ + "/open/library").ok());
  Mode("/open/library", 0640);
  EXPECT_THAT(std::string(IsOpenToOthers(folder_ + "/open/library").message()),
              HasSubstr("/open/library is closed to other users"));
  Mode("/open/library", 0644);
  Mode("/open", 0711);
  EXPECT_TRUE(IsOpenToOthers(folder_ + "/open/library").ok());
  EXPECT_FALSE(IsOpenToOthers(folder_ + "/open").ok()) << "its names can't be read";
  EXPECT_TRUE(IsOpenToOthers(folder_ + "/open/").ok());
  Mode("/open", 0750);
  EXPECT_THAT(std::string(IsOpenToOthers(folder_ + "/open/library").message()),
              HasSubstr("/open is closed"));
  EXPECT_TRUE(absl::IsNotFound(IsOpenToOthers(folder_ + "/missing")));
}

// The name that a host opens, not the place that it leads to.
TEST_F(HostUserTest, ALinkInAClosedFolderIsClosed) {
  std::filesystem::create_directory(folder_ + "/closed");
  std::filesystem::create_symlink(folder_ + "/open", folder_ + "/closed/link");
  Mode("/closed", 0700);
  EXPECT_THAT(std::string(IsOpenToOthers(folder_ + "/closed/link/library").message()),
              HasSubstr("/closed is closed"));
  // In the middle of a chain, too.
  std::filesystem::create_symlink("closed/link", folder_ + "/first");
  EXPECT_THAT(std::string(IsOpenToOthers(folder_ + "/first/library").message()),
              HasSubstr("/closed is closed"));
  Mode("/closed", 0755);
  EXPECT_TRUE(IsOpenToOthers(folder_ + "/closed/link/library").ok());
  EXPECT_TRUE(IsOpenToOthers(folder_ + "/first/../open/library").ok());
  std::filesystem::create_symlink("round", folder_ + "/round");
  EXPECT_TRUE(absl::IsNotFound(IsOpenToOthers(folder_ + "/round")));
}

TEST_F(HostUserTest, AllThatThePackageHasIsToBeOpenButItsContent) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  std::filesystem::create_directories(folder_ + "/open/below");
  std::ofstream(folder_ + "/open/below/data") << "x";
  Mode("/open/below/data", 0600);
  const auto lacks = [this](const std::string& content) {
    return ChooseHostUser(7, {}, {.package = folder_ + "/open", .content = content}).lacks;
  };
  if (lacks("").find("CAP_") != std::string::npos) GTEST_SKIP() << lacks("");
  EXPECT_THAT(lacks(""), HasSubstr("/open/below/data is closed to other users"));
  EXPECT_THAT(lacks(folder_ + "/open/below"), IsEmpty());
}

TEST_F(HostUserTest, WhatItIsToWriteIsToBeWritableToAll) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  std::filesystem::create_directories(folder_ + "/open/out");
  Mode("/open/out", 0755);
  const auto lacks = [this] {
    return ChooseHostUser(7, {},
                          {.writable = {folder_ + "/open/out"}, .package = folder_ + "/open"})
        .lacks;
  };
  if (lacks().find("CAP_") != std::string::npos) GTEST_SKIP() << lacks();
  EXPECT_THAT(lacks(), HasSubstr("/open/out is closed to other users"));
  Mode("/open/out", 0777);
  EXPECT_THAT(lacks(), IsEmpty());
}

TEST_F(HostUserTest, EachDriverGetsOneOfItsOwn) {
  std::set<uid_t> taken;
  for (int i = 0; i < 3; ++i) {
    const HostUser user = ChooseHostUser(
        7, taken,
        {.paths = {folder_ + "/open/library", "/no/such/file"}, .package = folder_ + "/open"});
    if (geteuid() != 0) {
      EXPECT_EQ(user.id, 0u);
      EXPECT_THAT(user.lacks, HasSubstr("not root"));
      return;
    }
    if (user.id == 0 && user.lacks.find("CAP_") != std::string::npos) GTEST_SKIP() << user.lacks;
    EXPECT_THAT(user.lacks, IsEmpty());
    EXPECT_GE(user.id, kHostUsersFirst);
    EXPECT_LE(user.id, kHostUsersLast);
    EXPECT_TRUE(taken.insert(user.id).second);
  }
  Mode("/open", 0700);
  const HostUser user = ChooseHostUser(7, {}, {.paths = {folder_ + "/open/library"}});
  EXPECT_EQ(user.id, 0u);
  EXPECT_THAT(user.lacks, HasSubstr("is closed to other users"));
}

}  // namespace
}  // namespace bulkhead
