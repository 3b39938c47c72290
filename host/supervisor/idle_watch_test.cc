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
  watch.Answered(100);
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
  watch.Answered(100);
  EXPECT_FALSE(watch.Idle(9));
  watch.Answered(200);
  EXPECT_TRUE(watch.Idle(9));
  watch.Answered(1);
  EXPECT_TRUE(watch.Idle(9)) << "other pongs change nothing";
  watch.Pinged(300, 9);
  EXPECT_FALSE(watch.Idle(9));
}

TEST(IdleWatch, AHostThatWasAwakeWhenPingedIsNotKnownToBeIdle) {
  IdleWatch watch;
  watch.Pinged(100, std::nullopt);
  watch.Answered(100);
  EXPECT_FALSE(watch.Idle(1));
  EXPECT_FALSE(watch.Idle(std::nullopt));
}

}  // namespace
}  // namespace bulkhead
