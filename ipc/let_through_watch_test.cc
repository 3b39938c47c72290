// SPDX-License-Identifier: Apache-2.0
#include "ipc/let_through_watch.h"

#include <gtest/gtest.h>

namespace bulkhead {
namespace {

constexpr uint64_t kSecond = kNanosecondsPerSecond;

TEST(LetThroughWatch, ShowsThemForTenMinutesAfterTheLast) {
  LetThroughWatch watch;
  EXPECT_EQ(watch.Note(0, kSecond).calls, 0u);
  EXPECT_EQ(watch.Note(3, 2 * kSecond).calls, 3u);
  EXPECT_EQ(watch.Note(3, 602 * kSecond).calls, 3u);
  EXPECT_EQ(watch.Note(3, 602 * kSecond).ago_ns, 600 * kSecond);
  EXPECT_EQ(watch.Note(3, 603 * kSecond).calls, 0u);
  EXPECT_EQ(watch.Note(4, 604 * kSecond).calls, 1u) << "not those of before";
  EXPECT_EQ(watch.Note(6, 1200 * kSecond).calls, 3u);
}

TEST(LetThroughWatch, WhatWasCountedBeforeItsTimeIsNotShown) {
  LetThroughWatch watch;
  watch.Begin(100);
  EXPECT_EQ(watch.Note(100, kSecond).calls, 0u);
  EXPECT_EQ(watch.Note(101, kSecond).calls, 1u);
}

TEST(LetThroughWatch, ACounterMayBeginAnew) {
  LetThroughWatch watch;
  watch.Begin(100);
  EXPECT_EQ(watch.Note(103, kSecond).calls, 3u);
  EXPECT_EQ(watch.Note(0, 2 * kSecond).calls, 3u);
  EXPECT_EQ(watch.Note(5, 3 * kSecond).calls, 8u);
}

TEST(LetThroughWatch, TellsEachOnceAndSeldom) {
  LetThroughWatch watch;
  EXPECT_EQ(watch.Note(2, kSecond).to_tell, 2u);
  EXPECT_EQ(watch.Note(2, 2 * kSecond).to_tell, 0u);
  EXPECT_EQ(watch.Note(5, 3 * kSecond).to_tell, 0u);
  EXPECT_EQ(watch.Note(6, 10 * kSecond).to_tell, 0u);
  EXPECT_EQ(watch.Note(6, 11 * kSecond).to_tell, 4u);
  EXPECT_EQ(watch.Note(6, 30 * kSecond).to_tell, 0u);
}

TEST(LetThroughWatch, SaysHowMany) {
  EXPECT_EQ(LetThroughWatch::Text({.calls = 3, .ago_ns = 5 * kSecond}, "calls", "its decision"),
            "calls let through without its decision: 3, the last 5 s ago");
}

}  // namespace
}  // namespace bulkhead
