// SPDX-License-Identifier: Apache-2.0
#include "host/service/reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace bulkhead {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ServiceConfig Now() {
  ServiceConfig config;
  config.drivers = {{.driver = "scanner"}, {.driver = "null"}};
  config.guards = {{.folder = "/a"}, {.folder = "/b"}};
  return config;
}

TEST(Reload, WithoutAChangeOnlyContentIsLookedAt) {
  const absl::StatusOr<ReloadPlan> plan = PlanReload(Now(), Now());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->content, ElementsAre(0, 1));
  EXPECT_THAT(plan->policies, IsEmpty());
  EXPECT_THAT(plan->guards, IsEmpty());
}

TEST(Reload, WhatCanChangeIsPlannedForTheDriverThatItIsOf) {
  ServiceConfig next = Now();
  std::swap(next.drivers[0], next.drivers[1]);
  next.drivers[0].policy.rule[BH_CLASS_FILE][BH_REASON_ABSENT].action = BH_ACTION_DENY;  // null
  next.drivers[1].content_folder = "/rules";
  next.guards.insert(next.guards.begin(), {.folder = "/c"});
  next.guards.pop_back();
  const absl::StatusOr<ReloadPlan> plan = PlanReload(Now(), next);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->policies.size(), 1u);
  EXPECT_EQ(plan->policies[0].first, 1u);
  EXPECT_EQ(plan->policies[0].second.rule[BH_CLASS_FILE][BH_REASON_ABSENT].action, BH_ACTION_DENY);
  EXPECT_THAT(plan->guards, ElementsAre("guards /c", "no longer guards /b"));
  EXPECT_FALSE(plan->accepts);
}

TEST(Reload, ModesAreChanged) {
  ServiceConfig next = Now();
  next.drivers[1].policy.mode = BH_MODE_AUDIT;
  next.guards[1].mode = BH_MODE_AUDIT;
  const absl::StatusOr<ReloadPlan> plan = PlanReload(Now(), next);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->policies.size(), 1u);
  EXPECT_EQ(plan->policies[0].first, 1u);
  EXPECT_EQ(plan->policies[0].second.mode, BH_MODE_AUDIT);
  EXPECT_THAT(plan->guards, ElementsAre("the mode of the guard of /b is audit"));
}

TEST(Reload, WhatIsOtherAboutAGuardIsNamedByItsKey) {
  const struct {
    std::function<void(GuardSpec&)> change;
    const char* key;
  } kChanges[] = {
      {[](GuardSpec& guard) { guard.callbacks = SetOf({BH_CALLBACK_FILE_EXEC}); }, "events"},
      {[](GuardSpec& guard) { guard.mark = MarkKind::kMount; }, "mark"},
      {[](GuardSpec& guard) { guard.deadline_ns = 7; }, "deadline"},
      {[](GuardSpec& guard) { guard.filter.skip_under = {"/a/b"}; }, "skip-under"},
      {[](GuardSpec& guard) { guard.filter.mode = AccessMode::kRead; }, "only.opened-for"},
      {[](GuardSpec& guard) { guard.filter.owner = 7; }, "only.owner"},
      {[](GuardSpec& guard) { guard.filter.extensions = {"exe"}; }, "only.extensions"},
  };
  for (const auto& change : kChanges) {
    ServiceConfig next = Now();
    change.change(next.guards[0]);
    const absl::StatusOr<ReloadPlan> plan = PlanReload(Now(), next);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_THAT(plan->guards,
                ElementsAre(std::string("the guard of /a has changed (") + change.key + ")"));
  }
  ServiceConfig next = Now();
  next.guards[0].deadline_ns = 7;
  next.guards[0].mark = MarkKind::kMount;
  next.guards[0].mode = BH_MODE_AUDIT;
  EXPECT_THAT(
      PlanReload(Now(), next)->guards,
      ElementsAre("the guard of /a has changed (mark, deadline), the mode of the guard of /a "
                  "is audit"));
}

TEST(Reload, GuardsInAnotherOrderAreTheSame) {
  ServiceConfig next = Now();
  std::swap(next.guards[0], next.guards[1]);
  EXPECT_THAT(PlanReload(Now(), next)->guards, IsEmpty());
}

TEST(Reload, OtherLimitsMayBeAccepted) {
  ServiceConfig next = Now();
  next.accepted = {"overlays"};
  EXPECT_TRUE(PlanReload(Now(), next)->accepts);
  EXPECT_FALSE(PlanReload(next, next)->accepts);
}

TEST(Reload, EachChangeThatTakesARestartIsNamed) {
  const struct {
    std::function<void(ServiceConfig&)> change;
    const char* name;
  } kChanges[] = {
      {[](ServiceConfig& next) { next.attachment = "module"; }, "attachment"},
      {[](ServiceConfig& next) { next.limits.retry_ns = 7; }, "quarantine-retry"},
      {[](ServiceConfig& next) { next.log = LogFormat::kJson; }, "log"},
      {[](ServiceConfig& next) { next.sandbox_required = BH_SANDBOX_FULL; }, "require-sandbox"},
      {[](ServiceConfig& next) { next.metrics = "[::1]:1"; }, "metrics"},
      {[](ServiceConfig& next) { next.page = true; }, "page"},
      {[](ServiceConfig& next) { next.drivers[1].cache_entries = 8; }, "cache of the driver null"},
      {[](ServiceConfig& next) { next.drivers[0].spin_us = 8; }, "spin of the driver scanner"},
      {[](ServiceConfig& next) { next.drivers.pop_back(); }, "the driver null is gone"},
      {[](ServiceConfig& next) { next.drivers.push_back({.driver = "third"}); },
       "the driver third is new"},
  };
  ServiceConfig all = Now();
  for (const auto& change : kChanges) {
    ServiceConfig next = Now();
    change.change(next);
    const absl::StatusOr<ReloadPlan> plan = PlanReload(Now(), next);
    EXPECT_TRUE(absl::IsFailedPrecondition(plan.status())) << change.name;
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr(change.name));
  }
  all.attachment = "module";
  all.page = true;
  EXPECT_THAT(std::string(PlanReload(Now(), all).status().message()),
              AllOf(HasSubstr("attachment, "), HasSubstr("page")));
}

}  // namespace
}  // namespace bulkhead
