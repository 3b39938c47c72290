// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/shim_protocol.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ipc/control/fields.h"
#include "ipc/shim_link.h"
#include "ipc/statistics.h"
#include "tests/testing/control_messages.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

TEST(ShimProtocol, PolicySurvivesTheTripAndIsChecked) {
  bh_policy policy = DefaultPolicy();
  policy.rule[BH_CLASS_FILE][1] = {BH_ACTION_CACHED, BH_ACTION_DENY};
  const ControlBuffer buffer = MakeSetPolicy(9, 2, policy);
  const auto& message = Body<wire::SetPolicy>(buffer);
  EXPECT_EQ(message.request(), 9u);
  EXPECT_EQ(message.channel(), 2u);
  auto read = ReadPolicy(message);
  ASSERT_TRUE(read.ok()) << read.status();
  for (size_t i = 0; i < BH_CLASS_COUNT; ++i) {
    for (size_t j = 0; j < BH_REASON_COUNT; ++j) {
      EXPECT_EQ(read->rule[i][j].action, policy.rule[i][j].action);
      EXPECT_EQ(read->rule[i][j].fallback, policy.rule[i][j].fallback);
    }
  }

  policy.rule[0][0].fallback = BH_ACTION_HOLD;  // not a fallback
  const ControlBuffer bad = MakeSetPolicy(9, 2, policy);
  EXPECT_THAT(std::string(ReadPolicy(Body<wire::SetPolicy>(bad)).status().message()),
              HasSubstr("rule 0"));
}

TEST(ShimProtocol, StatisticsSurviveTheTrip) {
  bh_statistics statistics = {};
  // Each counter with a value of its own.
  uint64_t number = 0;
  for (uint64_t& word : WordsOf(statistics)) word = ++number;
  const ControlBuffer result = MakeResult(5, "", &statistics);
  EXPECT_EQ(Body<wire::Result>(result).error(), nullptr);
  const bh_statistics answered = ReadStatistics(*Body<wire::Result>(result).statistics());
  EXPECT_EQ(WordsOf(answered), WordsOf(statistics));
}

TEST(ShimProtocol, WhatAHostHadInHandSurvivesTheTrip) {
  const bh_in_hand sent = {.count = 31,
                           .users = {1, 2, 3, 4, 1001},
                           .convicted_opener = 4,
                           .convicted_owner = BH_USER_ANY};
  const ControlBuffer result = MakeResult(5, "", nullptr, &sent);
  const bh_in_hand in_hand = ReadInHand(Body<wire::Result>(result));
  EXPECT_EQ(in_hand.count, 31u);
  for (uint32_t i = 0; i < BH_USERS_MAX; ++i) EXPECT_EQ(in_hand.users[i], sent.users[i]) << i;
  EXPECT_EQ(in_hand.convicted_opener, 4u);
  EXPECT_EQ(in_hand.convicted_owner, BH_USER_ANY);
  const ControlBuffer none = MakeResult(5, "");
  EXPECT_EQ(ReadInHand(Body<wire::Result>(none)).count, 0u);
}

}  // namespace
}  // namespace bulkhead
