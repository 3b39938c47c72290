// SPDX-License-Identifier: Apache-2.0
#include "ipc/shim_link.h"

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

TEST(Policy, HoldsThenAllowsAndDeniesPoison) {
  const Policy policy;
  for (const auto& by_reason : policy.rules) {
    for (NoAnswer reason :
         {NoAnswer::kAbsent, NoAnswer::kCrashed, NoAnswer::kHung, NoAnswer::kFull}) {
      EXPECT_EQ(by_reason[static_cast<size_t>(reason)].action, Action::kHold);
      EXPECT_EQ(by_reason[static_cast<size_t>(reason)].fallback, Action::kAllow);
    }
    EXPECT_EQ(by_reason[static_cast<size_t>(NoAnswer::kPoison)].action, Action::kDeny);
  }
}

}  // namespace
}  // namespace bulkhead
