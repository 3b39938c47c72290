// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/guard_spec.h"
#include "ipc/generation_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

TEST(GuardSpec, AnExistingFolderWithTheDefaultsIsRight) {
  EXPECT_TRUE(CheckGuard({.folder = "/"}).ok());
}

TEST(GuardSpec, EachMistakeNamesItsFieldAndItsValue) {
  const struct {
    GuardSpec guard;
    const char* field;
    const char* value;
  } kMistakes[] = {
      {{.folder = "/no/such/folder"}, "--guard takes", "can't guard /no/such/folder: No such file"},
      {{.folder = "/proc/version"}, "guard the one", "can't guard /proc/version: it is not"},
      {{.folder = "/", .callbacks = SetOf({})}, "--events", "open, exec, access"},
      {{.folder = "/", .callbacks = SetOf({BH_CALLBACK_FILE_ACCESS + 1})},
       "--events",
       "open, exec, access"},
      {{.folder = "/", .filter = {.skip_under = {"/not/there"}}},
       "--skip-under takes",
       "/not/there"},
      {{.folder = "/", .filter = {.extensions = {".exe"}}}, "--extensions", "'.exe'"},
      {{.folder = "/", .filter = {.extensions = {"a/b"}}}, "--extensions", "'a/b'"},
      {{.folder = "/", .filter = {.extensions = {""}}}, "--extensions", "''"},
      {{.folder = "/", .deadline_ns = 0}, "--deadline", "0 ns"},
      {{.folder = "/", .deadline_ns = GuardSpec::kDeadlineNsMax + 1}, "--deadline", "01 ns"},
  };
  for (const auto& mistake : kMistakes) {
    const absl::Status status = CheckGuard(mistake.guard, "--");
    EXPECT_FALSE(status.ok()) << mistake.field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(mistake.field));
    EXPECT_THAT(std::string(status.message()), HasSubstr(mistake.value));
  }
}

TEST(GuardSpec, EachKindOfMarkHasANameOfItsOwn) {
  std::set<std::string> names;
  for (const MarkKind kind : kMarkKinds) names.insert(MarkKindName(kind));
  EXPECT_EQ(names.size(), std::size(kMarkKinds));
  EXPECT_EQ(names.count("unknown"), 0u);
}

}  // namespace
}  // namespace bulkhead
