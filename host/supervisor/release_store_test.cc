// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/release_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <thread>

#include "host/supervisor/content_copy.h"

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

TEST_F(ReleaseStoreTest, CopiesAreTheSameByNamesAndBytes) {
  const std::string first = (*Add(folder_ + "/from"))->content_folder;
  EXPECT_TRUE(SameContent(first, (*Add(folder_ + "/from"))->content_folder));
  Write("from/below/b", "tw0");
  EXPECT_FALSE(SameContent(first, (*Add(folder_ + "/from"))->content_folder));
  Write("from/below/b", "two");
  Write("from/below/c", "");
  EXPECT_FALSE(SameContent(first, (*Add(folder_ + "/from"))->content_folder));
  fs::remove(folder_ + "/from/below/c");
  Write("from/a", std::string(200'000, 'x') + "y");
  const std::string large = (*Add(folder_ + "/from"))->content_folder;
  Write("from/a", std::string(200'000, 'x') + "z");
  EXPECT_FALSE(SameContent(large, (*Add(folder_ + "/from"))->content_folder));
  fs::rename(folder_ + "/from/a", folder_ + "/from/d");
  EXPECT_FALSE(SameContent(large, (*Add(folder_ + "/from"))->content_folder));
  EXPECT_FALSE(SameContent(first, "")) << "none";
  EXPECT_TRUE(SameContent("", ""));
}

TEST_F(ReleaseStoreTest, AReleaseWithoutContentHasNoFolder) {
  const auto release = Add("");
  ASSERT_TRUE(release.ok()) << release.status();
  EXPECT_EQ((*release)->id, 1u);
  EXPECT_EQ((*release)->content_version(), 0u);
  EXPECT_FALSE(fs::exists(folder_ + "/store"));
}

// Whatever the modes of what was copied are: they hold for its folder, which may be closed.
TEST_F(ReleaseStoreTest, CopiesAreOpenToTheirReadersOnly) {
  const auto mode = [](const std::string& path) {
    struct stat object = {};
    EXPECT_EQ(stat(path.c_str(), &object), 0) << path;
    return object.st_mode & 07777;
  };
  chmod((folder_ + "/from/a").c_str(), 0604);
  chmod((folder_ + "/from/below").c_str(), 0777);
  const auto kept = Add(folder_ + "/from");
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(mode((*kept)->content_folder), 0700u);
  EXPECT_EQ(mode((*kept)->content_folder + "/a"), 0604u);
  if (geteuid() != 0) GTEST_SKIP() << "the rest needs root";
  constexpr gid_t kReader = 60706;
  ReleaseStore store(folder_ + "/store-of-readers", kReader);
  const auto given = store.Add(driver_, folder_ + "/from", "options");
  ASSERT_TRUE(given.ok()) << given.status();
  for (const auto& [name, expected] : {std::pair("", 0750u), {"/a", 0640u}, {"/below", 0750u}}) {
    struct stat object = {};
    ASSERT_EQ(stat(((*given)->content_folder + name).c_str(), &object), 0) << name;
    EXPECT_EQ(object.st_mode & 07777, expected) << name;
    EXPECT_EQ(object.st_gid, kReader) << name;
    EXPECT_EQ(object.st_uid, 0u) << name;
  }
}

// A host must not read what root may; and no rule may be missed without a word.
TEST_F(ReleaseStoreTest, ALinkThatLeadsElsewhereIsRefusedByName) {
  fs::create_directories(folder_ + "/from/below");
  for (const char* target : {"/etc/hostname", "../elsewhere", "nothing", "below", "link", "a/b",
                             "/proc/self/environ", "below/../../from/a"}) {
    fs::create_symlink(target, folder_ + "/from/link");
    const absl::Status status = Add(folder_ + "/from").status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << target << ": " << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(folder_ + "/from/link"))
        << target;
    fs::remove(folder_ + "/from/link");
  }
}

TEST_F(ReleaseStoreTest, ALinkToAFileOfTheContentIsACopyOfIt) {
  fs::create_directories(folder_ + "/from/below");
  fs::create_symlink("a", folder_ + "/from/link");
  fs::create_symlink("../link", folder_ + "/from/below/link");
  const auto release = Add(folder_ + "/from");
  ASSERT_TRUE(release.ok()) << release.status();
  for (const char* name : {"/link", "/below/link"}) {
    const std::string copy = (*release)->content_folder + name;
    EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(copy))) << name;
    EXPECT_EQ(Read(copy), "one") << name;
  }
}

// A package's content must not show its host what root may read.
TEST_F(ReleaseStoreTest, ContentOfAPackageDoesNotLeadOutOfIt) {
  fs::create_directories(folder_ + "/package/content-2");
  Write("package/content-2/rule", "its own");
  fs::create_directory_symlink("content-2", folder_ + "/package/content");
  fs::create_directory_symlink(folder_ + "/from", folder_ + "/package/elsewhere");
  driver_.folder = folder_ + "/package";
  const auto own = Add(driver_.folder + "/content");
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(Read((*own)->content_folder + "/rule"), "its own");
  for (const char* name : {"/elsewhere", "/../from", "/elsewhere/below"}) {
    const absl::Status status = Add(driver_.folder + name).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name << ": " << status;
  }
  // What the operator names is his.
  fs::create_directory_symlink(folder_ + "/from", folder_ + "/link");
  EXPECT_TRUE(Add(folder_ + "/link").ok());
}

TEST_F(ReleaseStoreTest, CopiesAreBounded) {
  const auto copy = [this](const CopyLimits& limits) {
    fs::remove_all(folder_ + "/to");
    fs::create_directory(folder_ + "/to");
    absl::StatusOr<UniqueFd> from = OpenContent(folder_ + "/from", "");
    return from.ok() ? CopyContent(*std::move(from), "from", folder_ + "/to", limits)
                     : from.status();
  };
  EXPECT_TRUE(copy({.files = 2, .bytes = 6}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(copy({.files = 1, .bytes = 6})));
  EXPECT_TRUE(absl::IsResourceExhausted(copy({.files = 2, .bytes = 5})));
  std::string deep = folder_ + "/from";
  for (int i = 0; i < 70; ++i) deep += "/d";
  fs::create_directories(deep);
  EXPECT_TRUE(absl::IsResourceExhausted(copy({.files = 2, .bytes = 6})));
}

TEST_F(ReleaseStoreTest, LeavesOutWhatIsNoFile) {
  ASSERT_EQ(mkfifo((folder_ + "/from/pipe").c_str(), 0600), 0);
  const auto release = Add(folder_ + "/from");
  ASSERT_TRUE(release.ok()) << release.status();
  EXPECT_FALSE(fs::exists((*release)->content_folder + "/pipe"));
  EXPECT_EQ(Read((*release)->content_folder + "/a"), "one");
}

// A file becomes a link and a file again while it is copied.
TEST_F(ReleaseStoreTest, CopiesNothingThroughANameThatChanges) {
  Write("secret", "not for a host");
  std::atomic<bool> stop{false};
  std::thread swapping([&] {
    while (!stop.load()) {
      std::error_code error;
      fs::remove(folder_ + "/from/a", error);
      fs::create_symlink(folder_ + "/secret", folder_ + "/from/a", error);
      fs::remove(folder_ + "/from/a", error);
      Write("from/a", "one");
    }
  });
  int copies = 0;
  for (int i = 0; i < 200; ++i) {
    const auto release = Add(folder_ + "/from");
    if (!release.ok()) continue;
    ++copies;
    const std::string copied = Read((*release)->content_folder + "/a");
    EXPECT_TRUE(copied == "one" || copied.empty()) << copied;
    store_->DropUnless([&release](ReleaseId id) { return id == (*release)->id; });
  }
  stop.store(true);
  swapping.join();
  EXPECT_GT(copies, 0);
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
  store_->DropUnless([](ReleaseId id) { return id == 2; });
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
