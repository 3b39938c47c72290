// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/restart_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace bulkhead {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;

TEST(RestartBudget, AtOnceThenTenMillisecondsDoubling) {
  RestartBudget budget({.falls_max = 100});
  uint64_t now_ns = kSecond;
  EXPECT_EQ(budget.Fell(now_ns, 0), now_ns);
  for (uint64_t delay_ns = 10 * kMs; delay_ns < kSecond; delay_ns *= 2) {
    EXPECT_EQ(budget.Fell(now_ns, 0), now_ns + delay_ns);
    now_ns += kSecond;
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(budget.Fell(now_ns, 0), now_ns + kSecond) << "no longer than callers can wait";
    now_ns += 3 * kSecond;
  }
}

TEST(RestartBudget, JitterIsAtMostAQuarter) {
  for (uint64_t chance = 0; chance < 100'000'000; chance += 999'983) {
    RestartBudget budget({.falls_max = 100});
    (void)budget.Fell(0, chance);
    const auto at_ns = budget.Fell(0, chance);
    ASSERT_TRUE(at_ns);
    EXPECT_GE(*at_ns, 10 * kMs);
    EXPECT_LE(*at_ns, 12 * kMs + kMs / 2);
  }
}

TEST(RestartBudget, TheFifthFallInTenSecondsIsOneTooMany) {
  RestartBudget budget({});
  for (uint64_t i = 0; i < 4; ++i) EXPECT_TRUE(budget.Fell(i * kSecond, 0));
  EXPECT_FALSE(budget.Fell(9 * kSecond, 0));
  RestartBudget slower({});
  for (uint64_t i = 0; i < 20; ++i) EXPECT_TRUE(slower.Fell(i * 3 * kSecond, 0)) << i;
}

TEST(RestartBudget, TenSecondsOfServiceMakeTheNextRestartAtOnce) {
  RestartBudget budget({.falls_max = 100});
  for (int i = 0; i < 4; ++i) (void)budget.Fell(0, 0);
  EXPECT_GT(budget.Fell(20 * kSecond, 0, 10 * kSecond - 1), 20 * kSecond);
  EXPECT_EQ(budget.Fell(40 * kSecond, 0, 10 * kSecond), 40 * kSecond);
  EXPECT_EQ(budget.Fell(41 * kSecond, 0, kSecond), 41 * kSecond + 10 * kMs)
      << "and again from 10 ms";
}

// Each deadline of 5 s that it misses is a fall, and the window is 10 s.
TEST(RestartBudget, FiveHangsAreFiveFallsHoweverLongTheyTake) {
  RestartBudget budget({});
  uint64_t now_ns = 100 * kSecond;
  for (int hang = 1; hang < 5; ++hang) {
    now_ns += 5 * kSecond + 20 * kMs;
    const auto at_ns = budget.Fell(now_ns, 0, 5 * kSecond + 10 * kMs, 5 * kSecond);
    ASSERT_TRUE(at_ns) << hang;
    now_ns = *at_ns;
  }
  now_ns += 5 * kSecond + 20 * kMs;
  EXPECT_EQ(budget.Fell(now_ns, 0, 5 * kSecond, 5 * kSecond), std::nullopt);
}

TEST(RestartBudget, ServiceBetweenHangsForgives) {
  RestartBudget budget({});
  uint64_t now_ns = 100 * kSecond;
  for (int hang = 0; hang < 20; ++hang) {
    now_ns += 16 * kSecond;
    EXPECT_EQ(budget.Fell(now_ns, 0, 16 * kSecond, 5 * kSecond), now_ns) << hang;
  }
}

TEST(RestartBudget, AHangThatIsSaidToBeLongerThanTimeItselfIsCutShort) {
  RestartBudget budget({});
  EXPECT_EQ(budget.Fell(kSecond, 0, 0, UINT64_MAX), kSecond);
  EXPECT_TRUE(budget.Fell(2 * kSecond, 0, 0, UINT64_MAX).has_value());
}

bh_in_hand Of(const std::vector<uint32_t>& users) {
  bh_in_hand in_hand = {};
  in_hand.count = static_cast<uint32_t>(users.size());
  for (size_t i = 0; i < std::min<size_t>(users.size(), BH_USERS_MAX); ++i) {
    in_hand.users[i] = users[i];
  }
  return in_hand;
}

// The user to blame for these falls.
uint32_t Pardoned(const std::vector<std::vector<uint32_t>>& falls) {
  RestartBudget budget({.falls_max = static_cast<uint32_t>(falls.size())});
  for (size_t i = 0; i < falls.size(); ++i) {
    EXPECT_EQ(budget.Fell(kSecond, 0).has_value(), i + 1 < falls.size());
    budget.Explain(Of(falls[i]));
  }
  uint64_t at_ns = 0;
  return budget.Pardon(kSecond, 0, &at_ns);
}

constexpr uint32_t kUnknown = 0, kRoot = 1, kAnn = 1001, kBen = 1002, kCyd = 1003;

TEST(RestartBudget, AUserWhoseCallsWereInHandAtEachFallIsToBlame) {
  EXPECT_EQ(Pardoned({{kAnn}, {kAnn}, {kAnn}}), kAnn);
  EXPECT_EQ(Pardoned({{kRoot, kAnn}, {kAnn, kBen}, {kUnknown, kBen, kAnn}}), kAnn);
  EXPECT_EQ(Pardoned({{kAnn}, {kRoot}, {kAnn}}), 0u) << "it falls over root's, too";
  EXPECT_EQ(Pardoned({{kRoot}, {kRoot}, {kRoot}}), 0u) << "root's are the machine's";
  EXPECT_EQ(Pardoned({{kUnknown}, {kUnknown}, {kUnknown}}), 0u);
  EXPECT_EQ(Pardoned({{kAnn}, {}, {kAnn}}), 0u) << "nothing in hand: its own doing";
  std::vector<uint32_t> many(BH_USERS_MAX - 1);
  std::iota(many.begin(), many.end(), 2u);
  many.push_back(kAnn);
  EXPECT_EQ(Pardoned({many, {kAnn}, {kAnn}}), kAnn);
  many.insert(many.begin(), 999);
  EXPECT_EQ(Pardoned({many, {8888}, {kAnn}}), 0u) << "is not named there";
}

TEST(RestartBudget, TwoUsersTogetherAreToBlameAndThreeAreNot) {
  EXPECT_EQ(Pardoned({{kAnn}, {kBen}, {kAnn}}), kAnn);
  EXPECT_EQ(Pardoned({{kBen}, {kBen}, {kAnn}}), kAnn);
  EXPECT_EQ(Pardoned({{kCyd, kBen}, {kBen, kRoot}, {kRoot, kAnn}}), kAnn);
  EXPECT_EQ(Pardoned({{kCyd}, {kBen}, {kAnn}}), 0u);
  EXPECT_EQ(Pardoned({{kBen}, {kRoot}, {kAnn}}), 0u);
  EXPECT_EQ(Pardoned({{kBen}, {kAnn}, {kRoot}}), 0u);
}

TEST(RestartBudget, WhoeverIsToBlameGetsARestartASecondAndNoMore) {
  RestartBudget budget({});
  uint64_t now_ns = 100 * kSecond, at_ns = 0;
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(budget.Fell(now_ns, 0));
    budget.Explain(Of({kAnn}));
  }
  uint64_t last_ns = 0;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_FALSE(budget.Fell(now_ns, 0)) << i;
    budget.Explain(Of({kAnn}));
    ASSERT_EQ(budget.Pardon(now_ns, 0, &at_ns), kAnn) << i;
    EXPECT_LE(at_ns, now_ns + kSecond);
    last_ns = at_ns - now_ns;
    now_ns = at_ns;
  }
  EXPECT_EQ(last_ns, kSecond);
  ASSERT_FALSE(budget.Fell(now_ns, 0));
  budget.Explain(Of({kRoot}));
  EXPECT_EQ(budget.Pardon(now_ns, 0, &at_ns), 0u) << "the driver falls over what anybody has";
}

TEST(RestartBudget, WithoutALimitNoFallIsOneTooMany) {
  RestartBudget budget({.falls_max = kFallsWithoutLimit, .delay_ns_max = 100 * kMs});
  for (int i = 0; i < 100'000; ++i) {
    const auto at_ns = budget.Fell(0, 0);
    ASSERT_TRUE(at_ns);
    ASSERT_LE(*at_ns, 100 * kMs);
  }
}

}  // namespace
}  // namespace bulkhead
