// SPDX-License-Identifier: Apache-2.0
#include "host/service/config_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

TEST(ConfigValues, ATimeHasANumberAndAUnit) {
  const struct {
    const char* text;
    uint64_t ns;
  } kTimes[] = {{"500ms", 500'000'000},  {"5s", 5'000'000'000},   {"5", 5'000'000'000},
                {"2m", 120'000'000'000}, {"1.5s", 1'500'000'000}, {"1h", 3'600'000'000'000}};
  for (const auto& time : kTimes) {
    const absl::StatusOr<uint64_t> ns = ParseDuration(time.text);
    ASSERT_TRUE(ns.ok()) << time.text;
    EXPECT_EQ(*ns, time.ns) << time.text;
  }
}

TEST(ConfigValues, WhatIsNoTimeIsNamed) {
  for (const std::string text : {"", "s", "5 s", "5sec", "-5s", "0s", "0", "61m", "1.5h", "1e3s",
                                 "0x10", "nan", "inf", "5S", "..", "99999999999999999999s"}) {
    const absl::StatusOr<uint64_t> ns = ParseDuration(text);
    EXPECT_FALSE(ns.ok()) << text;
    EXPECT_THAT(std::string(ns.status().message()), HasSubstr("'" + text + "' is no time"));
  }
}

TEST(ConfigValues, ATimesTextIsReadAsTheSameTime) {
  for (const uint64_t ns : {uint64_t{500'000'000}, uint64_t{5'000'000'000}, uint64_t{1'500'000'000},
                            uint64_t{120'000'000'000}, uint64_t{3'600'000'000'000}}) {
    EXPECT_EQ(ParseDuration(DurationText(ns)).value_or(0), ns) << DurationText(ns);
  }
}

TEST(ConfigValues, ARulesTextIsReadAsTheSameRule) {
  for (const std::string text : {"allow", "deny", "hold,allow", "hold,deny", "cached,deny"}) {
    const absl::StatusOr<bh_rule> rule = ParseRule(text);
    ASSERT_TRUE(rule.ok()) << text;
    EXPECT_EQ(RuleText(*rule), text);
  }
  EXPECT_EQ(RuleText(*ParseRule("hold, deny")), "hold,deny");
  EXPECT_THAT(std::string(ParseRule("alow").status().message()),
              HasSubstr("'alow' is not an action (allow, deny, hold, cached)"));
  EXPECT_THAT(std::string(ParseRule("hold,hold").status().message()), HasSubstr("'hold'"));
}

}  // namespace
}  // namespace bulkhead
