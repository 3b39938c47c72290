// SPDX-License-Identifier: Apache-2.0
//
// With the real program: what a service leaves is what the next one finds.
#include "host/store/descriptor_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/store/store_message.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DescriptorStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = absl::StrCat(::testing::TempDir(), "/store-XXXXXX");
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    options_ = {.path = folder_ + "/s",
                .program = absl::StrCat(std::getenv("BULKHEAD_BUILD"), "/bin/bulkhead-fdstore"),
                .log = [this](const std::string& text) { said_.push_back(text); }};
  }
  void TearDown() override {
    if (absl::StatusOr<std::unique_ptr<DescriptorStore>> store = Open(); store.ok()) {
      (*store)->Forget();
    }
    EXPECT_FALSE(std::filesystem::exists(options_.path));
    std::filesystem::remove_all(folder_);
  }

  absl::StatusOr<std::unique_ptr<DescriptorStore>> Open() {
    return DescriptorStore::Open(options_);
  }
  std::unique_ptr<DescriptorStore> Opened() {
    absl::StatusOr<std::unique_ptr<DescriptorStore>> store = Open();
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  // The store's process, as its socket says.
  pid_t Process() const {
    absl::StatusOr<ControlSocket> socket = ControlSocket::Connect(options_.path);
    if (!socket.ok()) return -1;
    return socket->Peer()->pid;
  }
  // It listens once it runs.
  pid_t AwaitProcess() const {
    const uint64_t until_ns = MonotonicAfterNs(30 * kNanosecondsPerSecond);
    for (;;) {
      const pid_t pid = Process();
      if (pid > 0 || MonotonicNowNs() > until_ns) return pid;
      poll(nullptr, 0, 5);
    }
  }
  static void AwaitEnd(pid_t pid) {
    const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    pollfd ended = {pidfd.get(), POLLIN, 0};
    if (pidfd.valid()) {
      EXPECT_EQ(poll(&ended, 1, 30'000), 1);
    }
  }
  static UniqueFd Memory(const std::string& text) {
    UniqueFd memory(memfd_create("test", MFD_CLOEXEC));
    EXPECT_EQ(write(memory.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    return memory;
  }
  static std::string TextOf(const UniqueFd& memory) {
    char text[64] = {};
    const ssize_t size = pread(memory.get(), text, sizeof(text), 0);
    return std::string(text, size > 0 ? static_cast<size_t>(size) : 0);
  }

  std::string folder_;
  DescriptorStore::Options options_;
  std::vector<std::string> said_;
};

TEST_F(DescriptorStoreTest, TheNextFindsWhatWasLeft) {
  const UniqueFd one = Memory("one"), two = Memory("two");
  {
    const std::unique_ptr<DescriptorStore> store = Opened();
    EXPECT_EQ(store->left_ns(), 0u);
    store->Put("host/a", "first", {one.get(), two.get()});
    store->Put("host/b", "", {});
    store->Put("link", std::string("with\0nul", 8), {two.get()});
    store->Put("host/b", "newer", {two.get()});
    store->Put("gone", "x", {one.get()});
    store->Remove("gone");
    store->Remove("never there");
  }
  const uint64_t before_ns = MonotonicNowNs();
  const std::unique_ptr<DescriptorStore> store = Opened();
  EXPECT_GT(store->left_ns(), 0u);
  EXPECT_LE(store->left_ns(), before_ns + kNanosecondsPerSecond);
  EXPECT_THAT(store->Names(""), ElementsAre("host/a", "host/b", "link"));
  EXPECT_THAT(store->Names("host/"), ElementsAre("host/a", "host/b"));
  std::optional<DescriptorStore::Item> item = store->Get("host/a");
  ASSERT_TRUE(item.has_value());
  EXPECT_EQ(item->bytes, "first");
  ASSERT_EQ(item->descriptors.size(), 2u);
  EXPECT_EQ(TextOf(item->descriptors[0]), "one");
  EXPECT_EQ(TextOf(item->descriptors[1]), "two");
  EXPECT_EQ(store->Get("host/b")->bytes, "newer");
  EXPECT_EQ(store->Get("link")->bytes, std::string("with\0nul", 8));
  EXPECT_FALSE(store->Get("gone").has_value());
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(DescriptorStoreTest, ItHoldsWhenTheServiceIsKilled) {
  for (int round = 0; round < 20; ++round) {
    int ready[2];
    ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
    const pid_t service = fork();
    if (service == 0) {
      absl::StatusOr<std::unique_ptr<DescriptorStore>> store = Open();
      if (!store.ok()) _exit(1);
      const UniqueFd memory = Memory("still");
      (*store)->Put("item", absl::StrCat(round), {memory.get()});
      if (write(ready[1], "r", 1) != 1) _exit(1);
      pause();
    }
    close(ready[1]);
    char byte;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    kill(service, SIGKILL);
    waitpid(service, nullptr, 0);
    const std::unique_ptr<DescriptorStore> store = Opened();
    ASSERT_NE(store, nullptr);
    std::optional<DescriptorStore::Item> item = store->Get("item");
    ASSERT_TRUE(item.has_value());
    EXPECT_EQ(item->bytes, absl::StrCat(round));
    EXPECT_EQ(TextOf(item->descriptors.at(0)), "still");
  }
}

TEST_F(DescriptorStoreTest, AnItemKeepsTheOtherEndOpen) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd kept(ends[0]);
  const UniqueFd watched(ends[1]);
  std::unique_ptr<DescriptorStore> store = Opened();
  store->Put("socket", "", {kept.get()});
  kept.reset();
  store.reset();
  ASSERT_GT(AwaitProcess(), 0);
  pollfd hung_up = {watched.get(), POLLIN, 0};
  EXPECT_EQ(poll(&hung_up, 1, 0), 0);
  store = Opened();
  store->Forget();
  EXPECT_EQ(poll(&hung_up, 1, 30'000), 1);
}

TEST_F(DescriptorStoreTest, OneServiceAtATime) {
  const std::unique_ptr<DescriptorStore> store = Opened();
  ASSERT_GT(AwaitProcess(), 0);
  const absl::Status second = Open().status();
  EXPECT_TRUE(absl::IsAlreadyExists(second)) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr(absl::StrCat("as process ", getpid())));
}

TEST_F(DescriptorStoreTest, AStoreThatDiedIsStartedAgainWithEverything) {
  std::unique_ptr<DescriptorStore> store = Opened();
  const UniqueFd memory = Memory("kept");
  store->Put("before", "1", {memory.get()});
  const pid_t first = AwaitProcess();
  ASSERT_GT(first, 0);
  kill(first, SIGKILL);
  AwaitEnd(first);
  store->Check();
  EXPECT_THAT(said_, ElementsAre(HasSubstr("was started again")));
  store->Put("after", "2", {});
  const pid_t next = AwaitProcess();
  EXPECT_GT(next, 0);
  EXPECT_NE(next, first);
  store.reset();
  store = Opened();
  EXPECT_THAT(store->Names(""), ElementsAre("after", "before"));
  EXPECT_EQ(TextOf(store->Get("before")->descriptors.at(0)), "kept");
}

// It is as good as dead, and wakes up one day.
TEST_F(DescriptorStoreTest, AStoppedStoreIsReplacedAndEndsWhenItGoesOn) {
  std::unique_ptr<DescriptorStore> store = Opened();
  const pid_t first = AwaitProcess();
  ASSERT_GT(first, 0);
  kill(first, SIGSTOP);
  const std::string large(StoreMessage::kBytesMax, 'x');
  for (int i = 0; i < 64; ++i) store->Put(absl::StrCat("item ", i), large, {});
  EXPECT_TRUE(store->Holds());
  EXPECT_THAT(said_, ElementsAre(HasSubstr("was started again")));
  const pid_t next = AwaitProcess();
  EXPECT_NE(next, first);
  kill(first, SIGCONT);
  AwaitEnd(first);
  EXPECT_EQ(Process(), next);  // the path is the other's
  const size_t items = store->Names("").size();
  store.reset();
  EXPECT_EQ(Opened()->Names("").size(), items);
}

TEST_F(DescriptorStoreTest, AStoreThatCannotRunIsSaid) {
  options_.program = folder_ + "/none";
  const absl::Status status = Open().status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("is it installed?"));
}

TEST_F(DescriptorStoreTest, WithNothingToHoldItEndsWithTheService) {
  std::unique_ptr<DescriptorStore> store = Opened();
  store->Put("item", "", {});
  store->Remove("item");
  const pid_t pid = AwaitProcess();
  store.reset();
  AwaitEnd(pid);
  EXPECT_FALSE(std::filesystem::exists(options_.path));
}

TEST_F(DescriptorStoreTest, WhatIsTooLargeIsSaidAndTheRestHeld) {
  std::unique_ptr<DescriptorStore> store = Opened();
  store->Put("good", "", {});
  store->Put("large", std::string(StoreMessage::kBytesMax + 1, 'x'), {});
  store->Put("more", "", {});
  EXPECT_FALSE(said_.empty());
  store.reset();
  EXPECT_THAT(Opened()->Names(""), ElementsAre("good", "more"));
}

TEST_F(DescriptorStoreTest, AMessageOfAnotherVersionIsRefused) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd left(ends[0]), right(ends[1]);
  uint32_t words[8] = {StoreMessage::kVersion + 1};
  ASSERT_EQ(send(left.get(), words, sizeof(words), 0), static_cast<ssize_t>(sizeof(words)));
  EXPECT_TRUE(absl::IsFailedPrecondition(ReceiveStoreMessage(right.get(), 0).status()));
  words[0] = StoreMessage::kVersion;
  words[4] = 0xffffffff;  // the name's bytes
  ASSERT_EQ(send(left.get(), words, sizeof(words), 0), static_cast<ssize_t>(sizeof(words)));
  EXPECT_TRUE(absl::IsFailedPrecondition(ReceiveStoreMessage(right.get(), 0).status()));
  ASSERT_EQ(send(left.get(), words, 3, 0), 3);
  EXPECT_TRUE(absl::IsFailedPrecondition(ReceiveStoreMessage(right.get(), 0).status()));
}

TEST(StorePath, IsShortAndTheConfigurations) {
  const std::string path = StorePath("/run/bulkhead", "/etc/bulkhead/bulkhead.toml");
  EXPECT_EQ(path, StorePath("/run/bulkhead", "/etc/bulkhead/bulkhead.toml"));
  EXPECT_NE(path, StorePath("/run/bulkhead", "/etc/bulkhead/other.toml"));
  EXPECT_LT(path.size(), 60u);
}

}  // namespace
}  // namespace bulkhead
