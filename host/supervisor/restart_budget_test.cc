// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/restart_budget.h"

#include <gtest/gtest.h>

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
