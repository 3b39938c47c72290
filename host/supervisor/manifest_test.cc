// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "ipc/abi/notification.h"
#include "ipc/generation_spec.h"

namespace bulkhead {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kGood[] = R"({"schema": 1, "name": "good", "version": "1", "library": "good.so",
  "driver_abi": 1, "callbacks": ["file_open", "file_exec"]})";

// The good one with one field replaced, or added.
std::string With(const std::string& field, const std::string& value) {
  const std::string text = kGood;
  const size_t at = text.find("\"" + field + "\"");
  if (at == std::string::npos)
    return text.substr(0, text.size() - 1) + ", \"" + field + "\": " + value + "}";
  const size_t end = text.find_first_of(text[text.find(':', at) + 2] == '[' ? "]" : ",}", at);
  return text.substr(0, at) + "\"" + field + "\": " + value +
         text.substr(text[end] == ']' ? end + 1 : end);
}

TEST(Manifest, ReadsAGoodOne) {
  const auto manifest = ParseManifest(kGood);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->name, "good");
  EXPECT_EQ(manifest->callbacks, SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC}));
  EXPECT_EQ(manifest->workers, 2u);
  EXPECT_EQ(manifest->channel_flags, uint32_t{BH_CHANNEL_FLAGS_DEFAULT});
}

TEST(Manifest, SetsEachBooleanOfAChannel) {
  struct Row {
    const char* name;
    uint32_t bit;
  };
#define FLAG(id, NAME, name, on, doc) {#name, BH_CHANNEL_##NAME},
  constexpr Row kRows[] = {BH_FOR_EACH_CHANNEL_FLAG(FLAG)};
#undef FLAG
  for (const Row& row : kRows) {
    for (const bool on : {false, true}) {
      const auto manifest = ParseManifest(With(row.name, on ? "true" : "false"));
      ASSERT_TRUE(manifest.ok()) << manifest.status();
      EXPECT_EQ((manifest->channel_flags & row.bit) != 0, on) << row.name;
      EXPECT_EQ(manifest->channel_flags & ~row.bit, BH_CHANNEL_FLAGS_DEFAULT & ~row.bit);
    }
    const auto wrong = ParseManifest(With(row.name, "1"));
    EXPECT_THAT(wrong.status().message(), HasSubstr("must be true or false"));
  }
}

TEST(Manifest, NamesWhatADriverMayBeTold) {
  const auto manifest =
      ParseManifest(With("notifications", "[\"file_renamed\", \"process_exited\"]"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->notifications, SetOf({BH_NOTIFY_FILE_RENAMED, BH_NOTIFY_PROCESS_EXITED}));
  EXPECT_EQ(ParseManifest(kGood)->notifications, SetOf({}));
}

struct BadCase {
  const char* field;
  const char* value;
  const char* says;
};

class BadManifest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadManifest, IsRefusedByTheNameOfItsField) {
  const auto manifest = ParseManifest(With(GetParam().field, GetParam().value));
  ASSERT_FALSE(manifest.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(manifest.status()));
  EXPECT_THAT(std::string(manifest.status().message()), HasSubstr(GetParam().field));
  EXPECT_THAT(std::string(manifest.status().message()), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Manifest, BadManifest,
    ::testing::Values(
        BadCase{"schema", "2", "from 1 to 1"}, BadCase{"name", "7", "must be a text"},
        BadCase{"name", "\"Bad Name\"", "[a-z]"}, BadCase{"name", "\"\"", "empty"},
        BadCase{"library", "\"/etc/x.so\"", "relative"},
        BadCase{"library", "\"../x.so\"", "relative"},
        BadCase{"driver_abi", "9", "build the driver"}, BadCase{"callbacks", "[]", "list of names"},
        BadCase{"callbacks", "[\"file_opened\"]", "file_open"}, BadCase{"workers", "0", "from 1"},
        BadCase{"notifications", "[\"file_opened\"]", "file_created"},
        BadCase{"notifications", "true", "list of names"}, BadCase{"workers", "17", "to 16"},
        BadCase{"workers", "-1", "whole number"}, BadCase{"pending_calls_max", "4097", "to 4096"},
        BadCase{"checkpoint_bytes", "1e99", "whole number"},
        BadCase{"reads", "\"/etc\"", "list of absolute paths"},
        BadCase{"reads", "[1]", "not an absolute path"},
        BadCase{"reads", "[\"etc\"]", "not an absolute path"},
        BadCase{"reads", "[\"\"]", "not an absolute path"},
        BadCase{"reads", "[\"/etc\\n/root\"]", "not an absolute path"},
        BadCase{"reads", "[\"/etc\\u0000/root\"]", "not an absolute path"},
        BadCase{"writes", "\"/etc\"", "list of absolute paths"},
        BadCase{"writes", "[\"var\"]", "not an absolute path"},
        BadCase{"writes", "[\"//\"]", "name the folders"},
        BadCase{"scratch_mib", "65537", "from 0 to 65536"},
        BadCase{"cpu_percent_max", "-1", "from 0 to 102400"},
        BadCase{"memory_mib_max", "63", "from 64"}, BadCase{"start_within_s", "0", "from 1"},
        BadCase{"options", "[]", "must be a text"}, BadCase{"content", "true", "object"},
        BadCase{"calbacks", "[]", "is no field"}));

// Every problem, each with its place.
TEST(Manifest, SaysAllThatIsWrong) {
  const ManifestReading reading = ReadManifest(R"({
  "schema": 2,
  "name": "Bad Name", "version": "1",
  "library": "../x.so",
  "driver_abi": 1,
  "calbacks": ["file_open"],
  "notifications": ["file_crated", "file_deleted", 7],
  "workers": 17,
  "workers": 18,
  "content": {"requird": true, "default_path": "/abs"}
})");
  std::vector<std::string> said;
  for (const ManifestProblem& problem : reading.problems) {
    said.push_back(
        absl::StrCat(problem.place.line, ":", problem.place.column, " ", problem.Sentence()));
  }
  EXPECT_THAT(
      said,
      ElementsAre(
          "0:0 \"callbacks\" is missing",
          "2:13 \"schema\" must be a whole number from 1 to 1, not 2",
          "3:11 \"name\" must match [a-z][a-z0-9-]{0,31}, and 'Bad Name' does not",
          "4:14 \"library\" must be a relative path without \"..\"",
          ContainsRegex("6:3 .calbacks. is no field of a manifest; did you mean .callbacks.. There "
                        "are schema"),
          ContainsRegex("7:21 .notifications. has the entry 'file_crated', .*did you mean "
                        ".file_created.."),
          ContainsRegex("7:52 .notifications. has the entry '7', which is not one of"),
          "9:3 \"workers\" stands twice: remove one",
          "9:14 \"workers\" must be a whole number from 1 to 16, not 18",
          ContainsRegex("10:15 .content.requird. is no field of it; did you mean .required.."),
          "10:48 \"content.default_path\" must be a relative path without \"..\""));
}

TEST(Manifest, SaysWhereItIsNoJson) {
  const auto problem = [](const std::string& text) {
    const ManifestReading reading = ReadManifest(text);
    EXPECT_EQ(reading.problems.size(), 1u) << text;
    const ManifestProblem& first = reading.problems.at(0);
    return absl::StrCat(first.place.line, ":", first.place.column, " ", first.Sentence());
  };
  EXPECT_THAT(problem("{\n  \"a\": 1,\n}"),
              AllOf(HasSubstr("3:1 is not JSON"), HasSubstr("remove the comma")));
  EXPECT_THAT(problem("{\n  // a comment\n}"), HasSubstr("no comments"));
  EXPECT_THAT(problem("{'a': 1}"), HasSubstr("1:2 is not JSON"));
  EXPECT_THAT(problem(""), HasSubstr("is not JSON"));
}

// ---- docs/manifest.md

struct PageRow {
  std::string field, type, may_be, otherwise;
};

std::vector<PageRow> RowsOfThePage() {
  const char* source = std::getenv("BULKHEAD_SOURCE");
  std::ifstream page(std::string(source != nullptr ? source : ".") + "/docs/manifest.md");
  std::vector<PageRow> rows;
  for (std::string line; std::getline(page, line);) {
    std::smatch found;
    if (std::regex_match(line, found,
                         std::regex("\\| `([a-z_.]+)` \\| (.*) \\| (.*) \\| (.*) \\|"))) {
      rows.push_back({found[1], found[2], found[3], found[4]});
    }
  }
  return rows;
}

// The list that the error for an unknown field has.
std::vector<std::string> KnownFields(const std::string& text, const std::string& unknown) {
  for (const ManifestProblem& problem : ReadManifest(text).problems) {
    if (problem.field != unknown) continue;
    const std::string names = problem.text.substr(problem.text.find("here are ") + 9);
    std::vector<std::string> fields;
    for (const absl::string_view name :
         absl::StrSplit(names, absl::ByAnyChar(" ,"), absl::SkipEmpty())) {
      fields.emplace_back(name);
    }
    return fields;
  }
  return {};
}

TEST(ManifestPage, HasEachField) {
  std::vector<std::string> wanted = KnownFields(With("zzzzzz", "0"), "zzzzzz");
  ASSERT_GT(wanted.size(), 10u);
  for (const std::string& field :
       KnownFields(With("content", "{\"zzzzzz\": 0}"), "content.zzzzzz")) {
    wanted.push_back("content." + field);
  }
  std::vector<std::string> fields;
  for (const PageRow& row : RowsOfThePage()) fields.push_back(row.field);
  EXPECT_THAT(fields, ::testing::UnorderedElementsAreArray(wanted));
}

TEST(ManifestPage, BoundsAndDefaultsAreThoseOfTheParser) {
  const Manifest none = *ParseManifest(kGood);
  const std::map<std::string, uint64_t> defaults = {
      {"altitude", none.altitude},
      {"workers", none.workers},
      {"pending_calls_max", none.pending_calls_max},
      {"checkpoint_bytes", none.checkpoint_bytes},
      {"memory_mib_max", none.memory_mib_max},
      {"start_within_s", none.start_within_s},
      {"scratch_mib", none.scratch_mib},
      {"cpu_percent_max", none.cpu_percent_max},
      {"paths", (none.channel_flags & BH_CHANNEL_PATHS) != 0},
      {"content.required", none.content_required}};
  size_t checked = 0;
  for (const PageRow& row : RowsOfThePage()) {
    const auto refused = [&row](const std::string& value) {
      const auto manifest = ParseManifest(With(row.field, value));
      return !manifest.ok() && absl::StrContains(manifest.status().message(), row.field);
    };
    if (row.type == "number") {
      std::smatch bounds;
      ASSERT_TRUE(std::regex_search(row.may_be, bounds, std::regex("^([0-9]+) to ([0-9]+)")))
          << row.field;
      const uint64_t low = std::stoull(bounds[1]), high = std::stoull(bounds[2]);
      EXPECT_FALSE(refused(std::to_string(low))) << row.field;
      EXPECT_FALSE(refused(std::to_string(high))) << row.field;
      EXPECT_TRUE(refused(std::to_string(high + 1))) << row.field;
      EXPECT_TRUE(refused(low == 0 ? "-1" : std::to_string(low - 1))) << row.field;
      EXPECT_TRUE(refused("\"1\"")) << row.field;
      ++checked;
    } else if (row.field.find('.') == std::string::npos) {
      EXPECT_TRUE(refused("17")) << row.field << " is a " << row.type;
    }
    const auto found = defaults.find(row.field);
    if (found == defaults.end()) {
      EXPECT_TRUE(row.otherwise == "required" || row.otherwise == "empty" ||
                  row.otherwise == "none")
          << row.field << " has the default " << row.otherwise
          << ", which this test does not compare";
      continue;
    }
    const std::string shown = row.type == "number" ? std::to_string(found->second)
                              : found->second != 0 ? "true"
                                                   : "false";
    EXPECT_EQ(row.otherwise, shown) << row.field;
  }
  EXPECT_GE(checked, 8u);
}

TEST(ManifestPage, WhatIsRequiredIsMissed) {
  size_t required = 0;
  for (const PageRow& row : RowsOfThePage()) {
    const ManifestReading empty = ReadManifest("{}");
    const bool missed =
        std::any_of(empty.problems.begin(), empty.problems.end(),
                    [&](const ManifestProblem& problem) { return problem.field == row.field; });
    EXPECT_EQ(missed, row.otherwise == "required") << row.field;
    required += missed;
  }
  EXPECT_EQ(required, 6u);
}

TEST(Manifest, RefusesWhatIsNoManifest) {
  for (const char* text : {"", "[]", "null", "{", "\"text\"", "\177ELF"}) {
    EXPECT_FALSE(ParseManifest(text).ok()) << text;
  }
  EXPECT_FALSE(ParseManifest(std::string(100'000, '[')).ok());
  EXPECT_FALSE(ParseManifest(std::string(10'000, '[')).ok());
}

TEST(Manifest, SaysWhereItLooked) {
  const auto found = FindDriver("no-such-driver", {"/nowhere"});
  EXPECT_TRUE(absl::IsNotFound(found.status()));
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("/nowhere"));
}

}  // namespace
}  // namespace bulkhead
