// SPDX-License-Identifier: Apache-2.0
#include "ipc/spin_budget.h"

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

TEST(SpinBudget, LongWaitsEndSpinning) {
  SpinBudget budget(20'000);
  EXPECT_EQ(budget.budget_ns(), 20'000u);
  for (int i = 0; i < 10; ++i) budget.Learn(1'000'000);
  EXPECT_EQ(budget.budget_ns(), 0u);
}

TEST(SpinBudget, ShortWaitsBringItBackToTheCeilingAndNoFurther) {
  SpinBudget budget(20'000);
  budget.LearnPreempted();
  EXPECT_EQ(budget.budget_ns(), 0u);
  budget.Learn(5'000);
  EXPECT_EQ(budget.budget_ns(), 2'500u);
  for (int i = 0; i < 10; ++i) budget.Learn(5'000);
  EXPECT_EQ(budget.budget_ns(), 20'000u);
}

TEST(SpinBudget, ZeroNeverSpins) {
  SpinBudget budget(0);
  budget.Learn(0);
  budget.Learn(1);
  EXPECT_EQ(budget.budget_ns(), 0u);
}

}  // namespace
}  // namespace bulkhead
