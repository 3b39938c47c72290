// SPDX-License-Identifier: Apache-2.0
#include "host/process/log_queue.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <poll.h>

#include <string>
#include <thread>
#include <vector>

#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

bool Readable(const LogQueue& queue) {
  pollfd ready = {queue.fd(), POLLIN, 0};
  return poll(&ready, 1, 0) == 1;
}

bool Take(LogQueue& queue, LogQueue::Line* line) {
  if (!queue.Front(line)) return false;
  queue.Pop();
  return true;
}

TEST(LogQueue, GivesLinesInTheirOrder) {
  LogQueue queue;
  EXPECT_FALSE(Readable(queue));
  queue.Post(1, "first");
  queue.Post(3, "second");
  EXPECT_TRUE(Readable(queue));
  LogQueue::Line line;
  ASSERT_TRUE(Take(queue, &line));
  EXPECT_EQ(line.level, 1u);
  EXPECT_EQ(line.text, "first");
  EXPECT_TRUE(Readable(queue)) << "one is left";
  ASSERT_TRUE(Take(queue, &line));
  EXPECT_EQ(line.level, 3u);
  EXPECT_EQ(line.text, "second");
  EXPECT_FALSE(Take(queue, &line));
  EXPECT_FALSE(Readable(queue));
}

TEST(LogQueue, CutsLongLines) {
  LogQueue queue;
  queue.Post(0, std::string(LogQueue::kLineBytesMax + 1, 'x'));
  LogQueue::Line line;
  ASSERT_TRUE(Take(queue, &line));
  EXPECT_EQ(line.text, std::string(LogQueue::kLineBytesMax, 'x'));
}

TEST(LogQueue, DropsAndCountsWhatDoesNotFit) {
  LogQueue queue;
  LogQueue::Line line;
  queue.Post(0, "so that the ring does not begin where its memory does");
  ASSERT_TRUE(Take(queue, &line));
  for (size_t i = 0; i < LogQueue::kLinesMax + 10; ++i) queue.Post(0, std::to_string(i));
  EXPECT_EQ(queue.dropped(), 10u);
  for (size_t i = 0; i < LogQueue::kLinesMax; ++i) {
    ASSERT_TRUE(Take(queue, &line));
    EXPECT_EQ(line.text, std::to_string(i)) << "the oldest are kept";
  }
  EXPECT_FALSE(Take(queue, &line));
  queue.Post(0, "room again");
  EXPECT_TRUE(Take(queue, &line));
  EXPECT_EQ(queue.dropped(), 10u);
}

TEST(LogQueue, PostsWithoutAllocating) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's allocator does not count";
  LogQueue queue;
  const std::string text(LogQueue::kLineBytesMax, 'x');
  const auto allocated = [] { return mallinfo2().uordblks + mallinfo2().hblkhd; };
  const size_t before = allocated();
  ASSERT_GT(before, LogQueue::kLinesMax * text.size()) << "the queue itself does not show";
  for (size_t i = 0; i < LogQueue::kLinesMax + 10; ++i) queue.Post(0, text);
  EXPECT_EQ(allocated(), before);
}

TEST(LogQueue, CountsLinesThatCouldNotBeSent) {
  LogQueue queue;
  queue.Post(0, "a line");
  queue.Drop();
  EXPECT_EQ(queue.dropped(), 1u);
}

// Each line is taken or counted as dropped, while other threads post.
TEST(LogQueue, LosesNoLineBetweenThreads) {
  constexpr uint64_t kThreads = 3, kLines = 20'000;
  LogQueue queue;
  std::vector<std::thread> posters;
  for (uint64_t i = 0; i < kThreads; ++i) {
    posters.emplace_back([&queue] {
      for (uint64_t line = 0; line < kLines; ++line) queue.Post(0, "line");
    });
  }
  uint64_t taken = 0;
  LogQueue::Line line;
  while (taken + queue.dropped() < kThreads * kLines) {
    pollfd ready = {queue.fd(), POLLIN, 0};
    ASSERT_GE(poll(&ready, 1, 20'000), 0);
    while (Take(queue, &line)) ++taken;
  }
  for (std::thread& poster : posters) poster.join();
  EXPECT_EQ(taken + queue.dropped(), kThreads * kLines);
  EXPECT_FALSE(Readable(queue));
}

}  // namespace
}  // namespace bulkhead
