// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/content_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

class ContentStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/content-store-" + std::to_string(getpid());
    fs::create_directories(folder_ + "/from/below");
    Write("from/a", "one");
    Write("from/below/b", "two");
    store_ = std::make_unique<ContentStore>(folder_ + "/store");
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::string folder_;
  std::unique_ptr<ContentStore> store_;
};

TEST_F(ContentStoreTest, KeepsWhatWasThereWhenItWasAdded) {
  const auto version = store_->Add(folder_ + "/from");
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(*version, 1u);
  Write("from/a", "changed");
  EXPECT_EQ(Read(store_->Path(1) + "/a"), "one");
  EXPECT_EQ(Read(store_->Path(1) + "/below/b"), "two");
  EXPECT_EQ(*store_->Add(folder_ + "/from"), 2u);
  EXPECT_EQ(Read(store_->Path(2) + "/a"), "changed");
}

TEST_F(ContentStoreTest, DoesNotFollowLinks) {
  fs::create_symlink("/etc/hostname", folder_ + "/from/link");
  ASSERT_TRUE(store_->Add(folder_ + "/from").ok());
  EXPECT_FALSE(fs::exists(fs::symlink_status(store_->Path(1) + "/link")));
}

TEST_F(ContentStoreTest, LeavesNothingOfWhatFailed) {
  EXPECT_TRUE(absl::IsNotFound(store_->Add(folder_ + "/nothing").status()));
  for (size_t i = 0; i <= ContentStore::kFilesMax; ++i) Write("from/" + std::to_string(i), "");
  EXPECT_TRUE(absl::IsResourceExhausted(store_->Add(folder_ + "/from").status()));
  EXPECT_TRUE(fs::is_empty(folder_ + "/store"));
}

TEST_F(ContentStoreTest, DropsOldVersionsAndInTheEndAll) {
  ASSERT_TRUE(store_->Add(folder_ + "/from").ok());
  ASSERT_TRUE(store_->Add(folder_ + "/from").ok());
  store_->DropBefore(2);
  EXPECT_FALSE(fs::exists(store_->Path(1)));
  EXPECT_TRUE(fs::exists(store_->Path(2)));
  store_.reset();
  EXPECT_FALSE(fs::exists(folder_ + "/store"));
}

}  // namespace
}  // namespace bulkhead
