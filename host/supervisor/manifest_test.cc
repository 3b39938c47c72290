// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "ipc/abi/notification.h"
#include "ipc/generation_spec.h"

namespace bulkhead {
namespace {

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
