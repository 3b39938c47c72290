// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/idle_watch.h"

#include <gtest/gtest.h>

namespace bulkhead {
namespace {

TEST(IdleWatch, IdleAfterOneSleepBehindTheAnswer) {
  IdleWatch watch;
  EXPECT_FALSE(watch.Idle(0)) << "it was not pinged";
  watch.Pinged(100, 7);
  EXPECT_FALSE(watch.Idle(8)) << "it has not answered";
  EXPECT_TRUE(watch.Answered(100));
  EXPECT_FALSE(watch.Idle(7)) << "it has yet to go to sleep";
  EXPECT_TRUE(watch.Idle(8));
  EXPECT_TRUE(watch.Idle(8)) << "still";
  EXPECT_FALSE(watch.Idle(std::nullopt)) << "it is awake, stopped or frozen";
  EXPECT_FALSE(watch.Idle(9)) << "it has run since";
}

TEST(IdleWatch, OnlyTheAnswerToTheLastPingCounts) {
  IdleWatch watch;
  watch.Pinged(100, 7);
  watch.Pinged(200, 8);
  EXPECT_TRUE(watch.Answered(100));
  EXPECT_FALSE(watch.Idle(9));
  EXPECT_TRUE(watch.Answered(200));
  EXPECT_TRUE(watch.Idle(9));
  EXPECT_FALSE(watch.Answered(1));
  EXPECT_TRUE(watch.Idle(9)) << "other pongs change nothing";
  watch.Pinged(300, 9);
  EXPECT_FALSE(watch.Idle(9));
}

TEST(IdleWatch, OnePongForEachPingInTheirOrder) {
  IdleWatch watch;
  EXPECT_FALSE(watch.Answered(0));
  for (const uint64_t number : {uint64_t{10}, uint64_t{20}, uint64_t{30}}) watch.Pinged(number, 1);
  EXPECT_FALSE(watch.Answered(15)) << "no ping had this number";
  EXPECT_TRUE(watch.Answered(20));
  EXPECT_FALSE(watch.Answered(20)) << "twice";
  EXPECT_FALSE(watch.Answered(10)) << "passed over";
  EXPECT_TRUE(watch.Answered(30));
}

TEST(IdleWatch, AHostThatWasAwakeWhenPingedIsNotKnownToBeIdle) {
  IdleWatch watch;
  watch.Pinged(100, std::nullopt);
  EXPECT_TRUE(watch.Answered(100));
  EXPECT_FALSE(watch.Idle(1));
  EXPECT_FALSE(watch.Idle(std::nullopt));
}

TEST(IdleWatch, AnswersToAnotherServicesPingsAreNone) {
  IdleWatch watch;
  watch.IgnoreBelow(100);
  EXPECT_TRUE(watch.Answered(99)) << "to the service before";
  EXPECT_FALSE(watch.Answered(100)) << "to no ping";
  watch.Pinged(200, 7);
  EXPECT_TRUE(watch.Answered(99));
  EXPECT_FALSE(watch.Idle(8)) << "it has not answered this one";
  EXPECT_TRUE(watch.Answered(200));
  EXPECT_TRUE(watch.Idle(8));
}

}  // namespace
}  // namespace bulkhead
