// SPDX-License-Identifier: Apache-2.0
#include "host/process/checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <vector>

namespace bulkhead {
namespace {

std::vector<std::byte> Record(uint64_t number, size_t bytes) {
  std::vector<std::byte> record(bytes, static_cast<std::byte>(number & 0xff));
  std::memcpy(record.data(), &number, sizeof(number));
  return record;
}

class CheckpointTest : public ::testing::Test {
 protected:
  static constexpr size_t kBytes = 16384;
  void SetUp() override {
    void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    memory_ = {static_cast<std::byte*>(memory), kBytes};
  }
  void TearDown() override { munmap(memory_.data(), memory_.size()); }
  std::span<std::byte> memory_;
};

TEST_F(CheckpointTest, GivesTheLastRecordBack) {
  Checkpoint checkpoint(memory_);
  std::vector<std::byte> found(checkpoint.capacity());
  EXPECT_EQ(checkpoint.Load(found), 0) << "zeroed memory has none";
  for (uint64_t number = 1; number <= 5; ++number) {
    ASSERT_TRUE(checkpoint.Save(Record(number, 100 * number)));
    ASSERT_EQ(Checkpoint(memory_).Load(found), static_cast<long>(100 * number));
    EXPECT_EQ(std::memcmp(found.data(), Record(number, 100 * number).data(), 100 * number), 0);
  }
  EXPECT_EQ(checkpoint.Load(std::span(found).first(10)), -1);
  EXPECT_FALSE(checkpoint.Save(std::vector<std::byte>(checkpoint.capacity() + 1)));
}

TEST_F(CheckpointTest, FindsNothingInGarbage) {
  std::mt19937_64 random(7);
  std::vector<std::byte> found(kBytes);
  for (int i = 0; i < 1000; ++i) {
    for (std::byte& byte : memory_) byte = static_cast<std::byte>(random());
    EXPECT_EQ(Checkpoint(memory_).Load(found), 0);
  }
}

TEST_F(CheckpointTest, SmallMemoryHasNoCapacity) {
  std::array<std::byte, 16> small = {};
  Checkpoint checkpoint(small);
  EXPECT_EQ(checkpoint.capacity(), 0u);
  EXPECT_FALSE(checkpoint.Save({}));
}

// Every state in which a save can be interrupted, in any order in which its bytes reach the memory:
// the previous record is found until the new one is whole.
TEST_F(CheckpointTest, ATornSaveLeavesTheRecordBefore) {
  constexpr int kOrders = 20;
  std::mt19937_64 random(3);
  Checkpoint checkpoint(memory_);
  std::vector<std::byte> old, found(kBytes);
  for (uint64_t number = 1; number <= 8; ++number) {
    const std::vector<std::byte> record = Record(number, 8 + number * 37 % 50);
    const std::vector<std::byte> before(memory_.begin(), memory_.end());
    ASSERT_TRUE(checkpoint.Save(record));
    const std::vector<std::byte> after(memory_.begin(), memory_.end());
    std::vector<size_t> changed;
    for (size_t at = 0; at < kBytes; ++at) {
      if (before[at] != after[at]) changed.push_back(at);
    }
    for (int order = 0; order < kOrders; ++order) {
      std::copy(before.begin(), before.end(), memory_.begin());
      for (size_t written = 0; written <= changed.size(); ++written) {
        const std::vector<std::byte>& whole = written == changed.size() ? record : old;
        const long bytes = Checkpoint(memory_).Load(found);
        ASSERT_EQ(bytes, static_cast<long>(whole.size())) << number << ", " << written << " bytes";
        ASSERT_TRUE(std::equal(whole.begin(), whole.end(), found.begin()));
        if (written != changed.size()) memory_[changed[written]] = after[changed[written]];
      }
      std::shuffle(changed.begin(), changed.end(), random);
    }
    old = record;
  }
}

// A writer is killed at a random moment, many times: a load always finds one whole record, and
// never an older one than the load before.
TEST_F(CheckpointTest, AKillLeavesAWholeRecord) {
  std::mt19937_64 random(11);
  std::vector<std::byte> found(kBytes);
  uint64_t newest = 0;
  for (int round = 0; round < 200; ++round) {
    int started[2];
    ASSERT_EQ(pipe(started), 0);
    const pid_t writer = fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) {
      Checkpoint checkpoint(memory_);
      for (uint64_t number = newest + 1;; ++number) {
        if (!checkpoint.Save(Record(number, 64 + number * 37 % 7000))) _exit(1);
        if (number == newest + 1) (void)!write(started[1], "", 1);
      }
    }
    close(started[1]);
    char first;
    ASSERT_EQ(read(started[0], &first, 1), 1);
    close(started[0]);
    for (uint64_t spin = random() % 20'000; spin != 0; --spin) asm volatile("");
    kill(writer, SIGKILL);
    int status;
    waitpid(writer, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    const long bytes = Checkpoint(memory_).Load(found);
    ASSERT_GE(bytes, 64);
    uint64_t number;
    std::memcpy(&number, found.data(), sizeof(number));
    ASSERT_GT(number, newest);
    const std::vector<std::byte> whole = Record(number, 64 + number * 37 % 7000);
    ASSERT_EQ(static_cast<size_t>(bytes), whole.size());
    ASSERT_EQ(std::memcmp(found.data(), whole.data(), whole.size()), 0);
    newest = number;
  }
}

}  // namespace
}  // namespace bulkhead
