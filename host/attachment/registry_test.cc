// SPDX-License-Identifier: Apache-2.0
//
// The product's rows by the rules that hold for every row, and the choice among rows by made-up
// ones.
#include "host/attachment/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Attachments, EachRowIsWhole) {
  std::set<std::string> names = {"auto"};
  for (const AttachmentKind* kind : Attachments()) {
    EXPECT_TRUE(names.insert(kind->name).second) << kind->name << " is there twice";
    EXPECT_STRNE(kind->summary, "") << kind->name;
    EXPECT_STRNE(kind->remedy, "") << kind->name;
    EXPECT_NE(kind->probe, nullptr) << kind->name;
    EXPECT_NE(kind->create, nullptr) << kind->name;
    ASSERT_FALSE(kind->counters.empty()) << kind->name;
    EXPECT_STREQ(kind->counters[0], "events") << kind->name;
    EXPECT_EQ(std::set<std::string>(kind->counters.begin(), kind->counters.end()).size(),
              kind->counters.size())
        << kind->name;
  }
}

// Whatever a machine has: probe and create agree, and what is created counts what its row names.
TEST(Attachments, EachRowDoesWhatItsProbeSays) {
  for (const AttachmentKind* kind : Attachments()) {
    const absl::Status probed = kind->probe();
    absl::StatusOr<std::unique_ptr<Attachment>> made = kind->create({});
    EXPECT_EQ(probed.code(), made.status().code()) << kind->name << ": " << made.status();
    if (!made.ok()) {
      EXPECT_FALSE(made.status().message().empty()) << kind->name;
      continue;
    }
    ASSERT_NE((*made)->link(), nullptr) << kind->name;
    EXPECT_EQ((*made)->CounterValues().size(), kind->counters.size()) << kind->name;
    EXPECT_TRUE(kind->can(kGuardsFolders) ||
                absl::IsUnimplemented((*made)->Guard({.folder = "/none"}).status()))
        << kind->name;
    (*made)->Stop();
  }
}

TEST(Attachments, EachCapabilityHasAVerb) {
  std::set<std::string> verbs;
  for (const CapabilityText& text : kCapabilities) verbs.insert(CapabilityVerb(text.capability));
  EXPECT_EQ(verbs.size(), std::size(kCapabilities));
}

class Choice : public testing::Test {
 protected:
  static absl::StatusOr<std::unique_ptr<Attachment>> Made() { return nullptr; }
  static AttachmentKind Row(const char* name, uint32_t capabilities) {
    return {.name = name,
            .summary = "",
            .remedy = "",
            .capabilities = capabilities,
            .counters = {},
            .probe = [] { return absl::OkStatus(); },
            .create = [](const AttachmentOptions&) { return Made(); }};
  }
  static AttachmentKind Absent(const char* name, uint32_t capabilities) {
    AttachmentKind row = Row(name, capabilities);
    row.create = [](const AttachmentOptions&) -> absl::StatusOr<std::unique_ptr<Attachment>> {
      return absl::NotFoundError("it is not loaded: load it");
    };
    return row;
  }
  absl::StatusOr<ChosenAttachment> Choose(const char* name, const std::vector<Need>& needs) {
    std::vector<const AttachmentKind*> pointers;
    for (const AttachmentKind& row : rows_) pointers.push_back(&row);
    return CreateAttachment(pointers, name, needs, {});
  }
  std::string Refusal(const char* name, const std::vector<Need>& needs) {
    return std::string(Choose(name, needs).status().message());
  }
  std::vector<AttachmentKind> rows_;
  const std::vector<Need> guard_ = {{kGuardsFolders, "--guard"}};
  const std::vector<Need> owner_ = {{kGuardsFolders, "--guard"}, {kFiltersByOwner, "--owner"}};
};

TEST_F(Choice, AutoIsTheFirstThatIsThereAndCan) {
  rows_ = {Absent("best", kGuardsFolders | kFiltersByOwner), Row("other", kFiltersByOwner),
           Row("good", kGuardsFolders), Row("next", kGuardsFolders)};
  const absl::StatusOr<ChosenAttachment> chosen = Choose("auto", guard_);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_STREQ(chosen->kind->name, "good");
}

TEST_F(Choice, AnErrorOtherThanAbsenceIsNotPassedOver) {
  rows_ = {Row("best", kGuardsFolders), Row("next", kGuardsFolders)};
  rows_[0].create = [](const AttachmentOptions&) -> absl::StatusOr<std::unique_ptr<Attachment>> {
    return absl::AlreadyExistsError("another supervisor has it");
  };
  EXPECT_TRUE(absl::IsAlreadyExists(Choose("auto", guard_).status()));
}

TEST_F(Choice, AMissingCapabilityNamesTheOptionTheHolderAndTheLacker) {
  rows_ = {Row("rich", kGuardsFolders | kFiltersByOwner), Row("poor", kGuardsFolders)};
  const std::string refusal = Refusal("poor", owner_);
  EXPECT_EQ(refusal,
            "--owner needs attachment 'rich'; 'poor' can't filter by owner; 'bulkhead doctor' says "
            "what works here");
  EXPECT_TRUE(Choose("auto", owner_).ok());
}

TEST_F(Choice, AutoSaysWhyTheOnlyHolderIsNotThere) {
  rows_ = {Absent("rich", kGuardsFolders | kFiltersByOwner), Row("poor", kGuardsFolders),
           Row("library", 0)};
  const std::string refusal = Refusal("auto", owner_);
  EXPECT_THAT(refusal, HasSubstr("--owner needs attachment 'rich': it is not loaded: load it"));
  EXPECT_THAT(refusal, HasSubstr("'poor' can't filter by owner"));
  EXPECT_THAT(refusal, Not(HasSubstr("library")));
}

TEST_F(Choice, ANeedThatNoRowHasIsSaid) {
  rows_ = {Row("poor", kGuardsFolders)};
  EXPECT_EQ(Refusal("auto", owner_), "--owner: no attachment of this program can filter by owner");
}

TEST_F(Choice, AnUnknownNameListsTheKnownOnes) {
  rows_ = {Row("one", kGuardsFolders), Row("two", kGuardsFolders)};
  EXPECT_EQ(Refusal("three", guard_), "attachment 'three': there is none of that name (one, two)");
}

TEST(Needs, EachFieldOfAGuardNeedsItsCapability) {
  GuardSpec guard;
  EXPECT_EQ(NeedsOf(guard).size(), 1u);
  guard.filter = {
      .mode = AccessMode::kWrite, .owner = 0, .skip_under = {"/tmp"}, .extensions = {"exe"}};
  uint32_t needed = 0;
  for (const Need& need : NeedsOf(guard, "--")) {
    EXPECT_THAT(need.field, testing::StartsWith("--"));
    needed |= need.capability;
  }
  EXPECT_EQ(needed, kGuardsFolders | kFiltersByMode | kFiltersByOwner | kFiltersByFolder |
                        kFiltersByExtension);
}

}  // namespace
}  // namespace bulkhead
