// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/denial_queue.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr bh_denial_cause kByDriver = {
    .by = BH_DENIED_BY_DRIVER, .reason = 0, .audited = BH_AUDITED_DRIVER};

bh_call CallOf(uint32_t pid, uint64_t inode = 7) {
  bh_file_args args = {};
  args.pid = pid;
  args.uid = UINT32_MAX;
  args.inode = inode;
  bh_call call = {};
  call.callback = BH_CALLBACK_FILE_OPEN;
  call.args_bytes = sizeof(args);
  std::memcpy(call.args, &args, sizeof(args));
  call.descriptor = -1;
  return call;
}

template <size_t kBytes>
std::string TextOf(const char (&field)[kBytes]) {
  return std::string(field, strnlen(field, kBytes));
}

TEST(DenialQueue, KnowsTheProcessThatWaits) {
  std::vector<std::pair<uint32_t, bh_denial>> got;
  {
    DenialQueue queue(
        [&](uint32_t channel, const bh_denial& denial) { got.emplace_back(channel, denial); });
    ASSERT_TRUE(queue.Post(3, CallOf(static_cast<uint32_t>(getpid())), kByDriver));
  }
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].first, 3u);
  const bh_denial& denial = got[0].second;
  EXPECT_EQ(denial.audited, BH_AUDITED_DRIVER);
  EXPECT_EQ(denial.uid, geteuid());
  char self[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
  const std::string exe = self;
  EXPECT_EQ(TextOf(denial.exe),
            exe.substr(exe.size() - std::min<size_t>(exe.size(), BH_DENIAL_EXE_BYTES)));
  // The kernel keeps 15 bytes of a name.
  EXPECT_EQ(TextOf(denial.comm), exe.substr(exe.rfind('/') + 1, 15));
}

TEST(DenialQueue, NamesTheFileWhereTheDriverDidNotWantTheName) {
  std::string name;
  const UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  {
    DenialQueue queue([&](uint32_t, const bh_denial& denial) { name = TextOf(denial.path); });
    bh_call call = CallOf(0);
    call.descriptor = file.get();
    ASSERT_TRUE(queue.Post(0, call, kByDriver));
  }
  char self[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
  EXPECT_EQ(name, self);
}

TEST(DenialQueue, AProcessThatIsGoneIsNotNamed) {
  bh_denial got = {};
  {
    DenialQueue queue([&](uint32_t, const bh_denial& denial) { got = denial; });
    ASSERT_TRUE(queue.Post(0, CallOf(UINT32_MAX - 1), kByDriver));
  }
  EXPECT_EQ(got.pid, UINT32_MAX - 1);
  EXPECT_EQ(got.uid, UINT32_MAX);
  EXPECT_EQ(TextOf(got.comm), "");
  EXPECT_EQ(TextOf(got.exe), "");
}

TEST(DenialQueue, WhatFindsNoRoomIsRefusedAndTheRestComesInOrder) {
  std::promise<void> entered, open;
  std::vector<uint64_t> inodes;
  auto queue = std::make_unique<DenialQueue>([&](uint32_t, const bh_denial& denial) {
    if (inodes.empty()) {
      entered.set_value();
      open.get_future().wait();
    }
    inodes.push_back(denial.inode);
  });
  ASSERT_TRUE(queue->Post(0, CallOf(0, 1), kByDriver));
  entered.get_future().wait();
  for (size_t i = 1; i < DenialQueue::kCapacity; ++i) {
    ASSERT_TRUE(queue->Post(0, CallOf(0, i + 1), kByDriver)) << i;
  }
  EXPECT_FALSE(queue->Post(0, CallOf(0, 0), kByDriver));
  open.set_value();
  queue.reset();
  ASSERT_EQ(inodes.size(), DenialQueue::kCapacity);
  for (size_t i = 0; i < inodes.size(); ++i) EXPECT_EQ(inodes[i], i + 1);
}

}  // namespace
}  // namespace bulkhead
