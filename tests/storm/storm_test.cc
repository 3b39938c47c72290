// SPDX-License-Identifier: Apache-2.0
//
// Short storms and the demo, run as their user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "ipc/sanitizer.h"
#include "tests/testing/cli_fixture.h"

namespace bulkhead {
namespace {

using ::testing::ContainsRegex;

TEST_F(Cli, StormOnTheEmbeddedShimLosesNothing) {
  const Outcome storm = RunProgram("storm-embedded", "--calls 50000 --kills 20");
  // How long recovery takes is for the figures, not for a test: look at what was lost.
  for (const char* figure : {"lost", "completed_twice", "wrong", "by_policy"}) {
    EXPECT_THAT(storm.text, ContainsRegex(std::string("\n") + figure + " +0 "));
  }
}

void ExpectThatItHeld(const Outcome& demo) {
  for (const char* figure : {"wrong_verdicts +0 ", "calls_lost +0 ", "steps_held +1 "}) {
    EXPECT_THAT(demo.text, ContainsRegex(std::string("\n") + figure));
  }
}

TEST_F(CliAsRoot, DemoHolds) { ExpectThatItHeld(RunProgram("demo", "")); }

TEST_F(Cli, DemoHoldsWithoutPrivileges) {
  if (!OrdinaryCanRun()) GTEST_SKIP() << "an ordinary user can't reach " << build_;
  const Outcome demo = RunAs(Ordinary(), "", "demo");
  ExpectThatItHeld(demo);
  EXPECT_THAT(demo.text, ContainsRegex("while it is opened: denied, [0-9.]+ ms"));
}

TEST_F(CliAsRoot, StormOnRealFilesGivesEveryOpenItsVerdict) {
  const Outcome storm = RunProgram("storm-fanotify", "--calls 5000");
  for (const char* figure : {"wrong", "errors", "past_deadline"}) {
    EXPECT_THAT(storm.text, ContainsRegex(std::string("\n") + figure + " +0 "));
  }
}

TEST_F(CliAsRoot, StormOnTheServiceGivesEveryOpenItsVerdict) {
  const Outcome storm = RunProgram("storm-survival", "--kills 5");
  for (const char* figure : {"wrong", "errors", "past_deadline", "by_policy", "hosts_replaced"}) {
    EXPECT_THAT(storm.text, ContainsRegex(std::string("\n") + figure + " +0 "));
  }
  EXPECT_THAT(storm.text, ContainsRegex("\nsame_host +1 "));
}

TEST_F(CliAsRoot, ReadersOfAServiceHaveAnswersAndChangeNoVerdict) {
  const Outcome storm = RunProgram("storm-watched", "--short");
  EXPECT_EQ(storm.code, 0) << storm.text;
  for (const char* figure : {"wrong", "errors", "past_deadline", "unanswered", "hosts_replaced"}) {
    EXPECT_THAT(storm.text, ContainsRegex(std::string("\n") + figure + " +0 "));
  }
}

TEST_F(CliAsRoot, AMinuteOfSoakLeavesNothingBehind) {
  const Outcome storm = RunProgram("storm-soak", "--short");
  for (const char* figure : {"wrong", "errors", "past_deadline", "by_policy", "zombies",
                             "left_processes", "left_cgroups", "left_files"}) {
    EXPECT_THAT(storm.text, ContainsRegex(std::string("\n") + figure + " +0 "));
  }
  // What a sanitizer's runtime keeps of memory that was freed is growth, too.
  if (!kSanitized) {
    EXPECT_EQ(storm.code, 0) << storm.text;
  }
}

}  // namespace
}  // namespace bulkhead
