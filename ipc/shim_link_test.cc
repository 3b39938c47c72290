// SPDX-License-Identifier: Apache-2.0
#include "ipc/shim_link.h"

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

TEST(Policy, HoldsThenAllowsAndDeniesPoison) {
  const bh_policy policy = DefaultPolicy();
  for (const auto& by_reason : policy.rule) {
    for (bh_reason reason : {BH_REASON_ABSENT, BH_REASON_CRASHED, BH_REASON_HUNG, BH_REASON_FULL}) {
      EXPECT_EQ(by_reason[reason].action, BH_ACTION_HOLD);
      EXPECT_EQ(by_reason[reason].fallback, BH_ACTION_ALLOW);
    }
    EXPECT_EQ(by_reason[BH_REASON_POISON].action, BH_ACTION_DENY);
  }
}

}  // namespace
}  // namespace bulkhead
