// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/shim_protocol.h"

#include <cstring>
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

  EXPECT_EQ(read->mode, BH_MODE_ENFORCE);

  policy.mode = BH_MODE_AUDIT;
  const ControlBuffer audit = MakeSetPolicy(9, 2, policy);
  read = ReadPolicy(Body<wire::SetPolicy>(audit));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->mode, BH_MODE_AUDIT);
  policy.mode = 2;
  const ControlBuffer unknown = MakeSetPolicy(9, 2, policy);
  EXPECT_THAT(std::string(ReadPolicy(Body<wire::SetPolicy>(unknown)).status().message()),
              HasSubstr("unknown mode 2"));

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

TEST(ShimProtocol, ADenialSurvivesTheTripAndIsChecked) {
  bh_denial sent = {};
  sent.inode = 12;
  sent.audited = BH_AUDITED_GUARD;
  std::memcpy(sent.path, "/srv/a", 6);
  const ControlBuffer buffer = MakeShimDenial(3, sent);
  const auto& message = Body<wire::ShimDenial>(buffer);
  EXPECT_EQ(message.channel(), 3u);
  const absl::StatusOr<bh_denial> read = ReadShimDenial(message);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(std::memcmp(&*read, &sent, sizeof(sent)), 0);

  FlatBufferBuilder builder;
  const uint8_t bytes[] = {1, 2, 3};
  const auto record = builder.CreateVector(bytes, sizeof(bytes));
  const ControlBuffer cut = Finish(builder, wire::CreateShimDenial(builder, 3, record));
  EXPECT_THAT(std::string(ReadShimDenial(Body<wire::ShimDenial>(cut)).status().message()),
              HasSubstr("3 bytes"));
}

}  // namespace
}  // namespace bulkhead
