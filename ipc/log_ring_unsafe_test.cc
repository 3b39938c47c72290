// SPDX-License-Identifier: Apache-2.0
#include "ipc/log_ring_unsafe.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace bulkhead {
namespace {

class LogRingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    void* at =
        mmap(nullptr, LogRing::kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(at, MAP_FAILED);
    memory_ = {static_cast<std::byte*>(at), LogRing::kBytes};
  }
  void TearDown() override { munmap(memory_.data(), memory_.size()); }
  std::span<std::byte> memory_;
};

TEST_F(LogRingTest, WhatWasNotSentIsLeft) {
  LogRing ring(memory_);
  for (const char* text : {"one", "two", "three"}) ASSERT_TRUE(ring.Put(2, 77, text));
  LogRing::Line line;
  ASSERT_TRUE(ring.Front(&line));
  EXPECT_EQ(line.text, "one");
  EXPECT_EQ(line.number, 1u);
  ring.Pop();
  const LogRing::Left left = LogRing::ReadLeft(memory_, 1);
  ASSERT_EQ(left.lines.size(), 2u);
  EXPECT_EQ(left.lines[0].text, "two");
  EXPECT_EQ(left.lines[0].level, 2u);
  EXPECT_EQ(left.lines[0].time_ns, 77u);
  EXPECT_EQ(left.lines[1].number, 3u);
}

// The host died between sending a line and counting it as sent; or its supervisor had not read it
// yet.
TEST_F(LogRingTest, ALineIsLeftUntilItHasArrived) {
  LogRing ring(memory_);
  ring.Put(0, 0, "arrived");
  ring.Put(0, 0, "on its way");
  ring.Put(0, 0, "not sent");
  ring.Pop();
  ring.Pop();
  const LogRing::Left left = LogRing::ReadLeft(memory_, 1);
  ASSERT_EQ(left.lines.size(), 2u);
  EXPECT_EQ(left.lines[0].text, "on its way");
  EXPECT_EQ(left.lines[1].text, "not sent");
  EXPECT_TRUE(LogRing::ReadLeft(memory_, 3).lines.empty());
}

TEST_F(LogRingTest, CountsWhatFoundNoRoom) {
  LogRing ring(memory_);
  for (size_t i = 0; i < LogRing::kLinesMax; ++i) ASSERT_TRUE(ring.Put(0, 0, "line"));
  EXPECT_FALSE(ring.Put(0, 0, "no room"));
  EXPECT_FALSE(ring.Put(0, 0, "no room"));
  ring.Pop();
  ASSERT_TRUE(ring.Put(0, 0, "room again"));
  const LogRing::Left left = LogRing::ReadLeft(memory_, 1);
  EXPECT_EQ(left.dropped, 2u);
  ASSERT_EQ(left.lines.size(), LogRing::kLinesMax);
  EXPECT_EQ(left.lines.front().dropped, 0u);
  EXPECT_EQ(left.lines.back().dropped, 2u) << "they are missing right before this one";
  EXPECT_EQ(left.lines.back().text, "room again");
}

// The place of a line that was sent, and did not arrive, was needed.
TEST_F(LogRingTest, CountsWhatWasSentAndIsGone) {
  LogRing ring(memory_);
  for (size_t i = 0; i < LogRing::kLinesMax + 5; ++i) {
    ASSERT_TRUE(ring.Put(0, 0, "line"));
    ring.Pop();
  }
  const LogRing::Left left = LogRing::ReadLeft(memory_, 2);
  EXPECT_EQ(left.dropped, 3u);
  EXPECT_EQ(left.lines.size(), LogRing::kLinesMax);
}

TEST_F(LogRingTest, SurvivesAKill) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    LogRing ring(memory_);
    ring.Put(3, 5, "last words");
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  const LogRing::Left left = LogRing::ReadLeft(memory_, 0);
  ASSERT_EQ(left.lines.size(), 1u);
  EXPECT_EQ(left.lines[0].text, "last words");
}

// A driver can write anything there.
TEST_F(LogRingTest, TakesNothingThatCannotBe) {
  std::mt19937_64 random(7);
  for (uint64_t round = 0; round < 2000; ++round) {
    for (size_t at = 0; at + sizeof(uint64_t) <= memory_.size(); at += sizeof(uint64_t)) {
      const uint64_t word = random();
      std::memcpy(memory_.data() + at, &word, sizeof(word));
      if (at == 64 && round % 2 != 0) break;  // the counts alone
    }
    if (round % 3 == 0) {  // counts that can be, over slots that can't
      const uint64_t count = 1 + round;
      std::memcpy(memory_.data(), &count, sizeof(count));
    }
    const LogRing::Left left = LogRing::ReadLeft(memory_, 0);
    ASSERT_LE(left.lines.size(), LogRing::kLinesMax);
    for (const LogRing::Line& line : left.lines) {
      ASSERT_LE(line.text.size(), LogRing::kLineBytesMax);
      ASSERT_LE(line.level, 3u);
    }
  }
}

TEST_F(LogRingTest, TheWriterGoesOnWhenItsMemoryIsWrittenOver) {
  LogRing ring(memory_);
  LogRing::Line line;
  ring.Put(1, 0, "one");
  std::memset(memory_.data(), 0xff, memory_.size());
  ASSERT_TRUE(ring.Front(&line));
  EXPECT_EQ(line.text.size(), LogRing::kLineBytesMax);
  EXPECT_EQ(line.number, 1u);
  ring.Pop();
  EXPECT_FALSE(ring.Front(&line));
  ring.Put(1, 0, "two");
  ASSERT_TRUE(ring.Front(&line));
  EXPECT_EQ(line.text, "two");
}

}  // namespace
}  // namespace bulkhead
