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

TEST_F(HostUserTest, EachDriverGetsOneOfItsOwn) {
  std::set<uid_t> taken;
  for (int i = 0; i < 3; ++i) {
    const HostUser user = ChooseHostUser(7, taken, {folder_ + "/open/library", "/no/such/file"});
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
  const HostUser user = ChooseHostUser(7, {}, {folder_ + "/open/library"});
  EXPECT_EQ(user.id, 0u);
  EXPECT_THAT(user.lacks, HasSubstr("is closed to other users"));
}

}  // namespace
}  // namespace bulkhead
