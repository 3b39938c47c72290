// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/release_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

class ReleaseStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/release-store-" + std::to_string(getpid());
    fs::create_directories(folder_ + "/from/below");
    Write("from/a", "one");
    Write("from/below/b", "two");
    store_ = std::make_unique<ReleaseStore>(folder_ + "/store");
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  absl::StatusOr<std::shared_ptr<const Release>> Add(const std::string& content) {
    return store_->Add(driver_, content, "options");
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::string folder_;
  Manifest driver_ = {.name = "driver"};
  std::unique_ptr<ReleaseStore> store_;
};

TEST_F(ReleaseStoreTest, KeepsWhatWasThereWhenItWasAdded) {
  const auto first = Add(folder_ + "/from");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ((*first)->id, 1u);
  EXPECT_EQ((*first)->driver.name, "driver");
  EXPECT_EQ((*first)->options, "options");
  EXPECT_EQ((*first)->content_source, folder_ + "/from");
  Write("from/a", "changed");
  EXPECT_EQ(Read((*first)->content_folder + "/a"), "one");
  EXPECT_EQ(Read((*first)->content_folder + "/below/b"), "two");
  const auto second = Add(folder_ + "/from");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ((*second)->id, 2u);
  EXPECT_EQ((*second)->content_version(), 2u);
  EXPECT_EQ(Read((*second)->content_folder + "/a"), "changed");
  EXPECT_EQ(store_->Get(1), *first);
  EXPECT_EQ(store_->Get(3), nullptr);
}

TEST_F(ReleaseStoreTest, AReleaseWithoutContentHasNoFolder) {
  const auto release = Add("");
  ASSERT_TRUE(release.ok()) << release.status();
  EXPECT_EQ((*release)->id, 1u);
  EXPECT_EQ((*release)->content_version(), 0u);
  EXPECT_FALSE(fs::exists(folder_ + "/store"));
}

TEST_F(ReleaseStoreTest, DoesNotFollowLinks) {
  fs::create_symlink("/etc/hostname", folder_ + "/from/link");
  const auto release = Add(folder_ + "/from");
  ASSERT_TRUE(release.ok()) << release.status();
  EXPECT_FALSE(fs::exists(fs::symlink_status((*release)->content_folder + "/link")));
}

TEST_F(ReleaseStoreTest, LeavesNothingOfWhatFailed) {
  EXPECT_TRUE(absl::IsNotFound(Add(folder_ + "/nothing").status()));
  for (size_t i = 0; i <= ReleaseStore::kFilesMax; ++i) Write("from/" + std::to_string(i), "");
  EXPECT_TRUE(absl::IsResourceExhausted(Add(folder_ + "/from").status()));
  EXPECT_TRUE(fs::is_empty(folder_ + "/store"));
}

// The supervisor's loop drops releases, and must not wait for a file system.
TEST_F(ReleaseStoreTest, TheNextAddRemovesDroppedCopiesAndTheEndRemovesAll) {
  ASSERT_TRUE(Add(folder_ + "/from").ok());
  ASSERT_TRUE(Add(folder_ + "/from").ok());
  store_->DropBefore(2);
  EXPECT_EQ(store_->Get(1), nullptr);
  EXPECT_NE(store_->Get(2), nullptr);
  ASSERT_TRUE(Add(folder_ + "/from").ok());
  EXPECT_FALSE(fs::exists(folder_ + "/store/1"));
  EXPECT_TRUE(fs::exists(folder_ + "/store/2"));
  store_.reset();
  EXPECT_FALSE(fs::exists(folder_ + "/store"));
}

}  // namespace
}  // namespace bulkhead
