// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/rest_watch.h"

#include <gtest/gtest.h>

namespace bulkhead {
namespace {

TEST(RestWatch, ItRestsAfterOneSleepBehindItsAnswer) {
  RestWatch watch;
  EXPECT_FALSE(watch.Rests(0)) << "nobody has asked it";
  watch.Pinged(100, 7);
  EXPECT_FALSE(watch.Rests(8)) << "it has not answered";
  watch.Answered(100);
  EXPECT_FALSE(watch.Rests(7)) << "it has yet to go to sleep";
  EXPECT_TRUE(watch.Rests(8));
  EXPECT_TRUE(watch.Rests(8)) << "still";
  EXPECT_FALSE(watch.Rests(std::nullopt)) << "it is awake, stopped or frozen";
  EXPECT_FALSE(watch.Rests(9)) << "it has run since";
}

TEST(RestWatch, OnlyTheAnswerToTheLastPingCounts) {
  RestWatch watch;
  watch.Pinged(100, 7);
  watch.Pinged(200, 8);
  watch.Answered(100);
  EXPECT_FALSE(watch.Rests(9));
  watch.Answered(200);
  EXPECT_TRUE(watch.Rests(9));
  watch.Answered(1);
  EXPECT_TRUE(watch.Rests(9)) << "what it says beside that takes nothing back";
  watch.Pinged(300, 9);
  EXPECT_FALSE(watch.Rests(9));
}

TEST(RestWatch, WhoWasAwakeWhenAskedIsNotKnownToRest) {
  RestWatch watch;
  watch.Pinged(100, std::nullopt);
  watch.Answered(100);
  EXPECT_FALSE(watch.Rests(1));
  EXPECT_FALSE(watch.Rests(std::nullopt));
}

}  // namespace
}  // namespace bulkhead
