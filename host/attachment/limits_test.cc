// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

bool applies = false;

constexpr AttachmentLimit kRows[] = {{.name = "doors",
                                      .text = "a door is open",
                                      .remedy = "shut it",
                                      .applies = [] { return applies; }},
                                     {.name = "trees",
                                      .text = "a tree grows",
                                      .remedy = "fell it",
                                      .applies = [] { return true; },
                                      .of_marks = MarkKind::kDirectory}};

class LimitsTest : public ::testing::Test {
 protected:
  void SetUp() override { applies = false; }
  GuardProtection After(Limits& limits, MarkKind mark, bh_protection level = BH_PROTECTION_FULL) {
    GuardProtection guard;
    guard.level = level;
    limits.LookAgain();
    limits.Degrade(guard, mark);
    return guard;
  }
  uint64_t now_ns_ = 5;
};

TEST_F(LimitsTest, OneThatAppliesDegradesAndSaysWhatHelps) {
  applies = true;
  Limits limits(kRows, {});
  const GuardProtection guard = After(limits, MarkKind::kFilesystem);
  EXPECT_EQ(guard.level, BH_PROTECTION_DEGRADED);
  EXPECT_THAT(guard.reasons, ElementsAre(AllOf(HasSubstr("a door is open"), HasSubstr("shut it"),
                                               HasSubstr("--accept doors"))));
}

TEST_F(LimitsTest, OneOfAKindOfMarksIsOfThoseOnly) {
  Limits limits(kRows, {});
  EXPECT_EQ(After(limits, MarkKind::kDirectory).level, BH_PROTECTION_DEGRADED);
  EXPECT_EQ(After(limits, MarkKind::kMount).level, BH_PROTECTION_FULL);
  EXPECT_EQ(After(limits, MarkKind::kFilesystem).level, BH_PROTECTION_FULL);
}

TEST_F(LimitsTest, AnAcceptedOneChangesNothing) {
  applies = true;
  Limits limits(kRows, {"doors", "trees"});
  const GuardProtection guard = After(limits, MarkKind::kDirectory);
  EXPECT_EQ(guard.level, BH_PROTECTION_FULL);
  EXPECT_THAT(guard.reasons, IsEmpty());
}

TEST_F(LimitsTest, OthersMayBeAcceptedMeanwhile) {
  applies = true;
  Limits limits(kRows, {"trees"}, [this] { return now_ns_; });
  EXPECT_THAT(After(limits, MarkKind::kDirectory).reasons,
              ElementsAre(HasSubstr("a door is open")));
  limits.Accept({"doors", "trees"});
  GuardProtection guard;
  limits.Degrade(guard, MarkKind::kDirectory);
  EXPECT_EQ(guard.level, BH_PROTECTION_FULL) << "at once";
  limits.Accept({"doors"});
  EXPECT_THAT(After(limits, MarkKind::kDirectory).reasons, ElementsAre(HasSubstr("a tree grows")));
}

TEST_F(LimitsTest, WhatIsNotGuardedHasNothingToLose) {
  applies = true;
  Limits limits(kRows, {});
  const GuardProtection guard = After(limits, MarkKind::kDirectory, BH_PROTECTION_NONE);
  EXPECT_EQ(guard.level, BH_PROTECTION_NONE);
  EXPECT_THAT(guard.reasons, IsEmpty());
}

TEST_F(LimitsTest, AreTriedAgainAfterTenSeconds) {
  Limits limits(kRows, {"trees"}, [this] { return now_ns_; });
  EXPECT_EQ(After(limits, MarkKind::kDirectory).level, BH_PROTECTION_FULL);
  applies = true;
  now_ns_ += Limits::kAgainNs - 1;
  EXPECT_EQ(After(limits, MarkKind::kDirectory).level, BH_PROTECTION_FULL);
  now_ns_ += 1;
  EXPECT_EQ(After(limits, MarkKind::kDirectory).level, BH_PROTECTION_DEGRADED);
  applies = false;
  now_ns_ += Limits::kAgainNs;
  EXPECT_EQ(After(limits, MarkKind::kDirectory).level, BH_PROTECTION_FULL);
}

TEST(UsersCanMountOverlays, DependsOnWhatTheKernelLetsThemDo) {
  if (geteuid() != 0) GTEST_SKIP() << "becomes another user: needs root";
  if (kThreadSanitized) {
    GTEST_SKIP() << "ThreadSanitizer's runtime starts a thread in the child, which then can't make "
                    "a user namespace";
  }
  const bool here = UsersCanMountOverlays();
  EXPECT_EQ(UsersCanMountOverlays(), here);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child was left";
  std::string limit;
  std::ifstream("/proc/sys/user/max_user_namespaces") >> limit;
  if (limit == "0") {
    EXPECT_FALSE(here);
  }
  // What a user would type.
  const int typed = std::system(
      "setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user --map-root-user --mount "
      "sh -c 'mount -t tmpfs none /tmp && mkdir /tmp/a /tmp/b /tmp/c && "
      "mount -t overlay overlay -o lowerdir=/tmp/a:/tmp/b /tmp/c' 2>/dev/null");
  EXPECT_EQ(here, typed == 0);
  std::printf("a user %s mount an overlay here\n", here ? "can" : "can't");
}

}  // namespace
}  // namespace bulkhead
