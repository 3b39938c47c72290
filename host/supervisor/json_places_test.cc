// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/json_places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace bulkhead {
namespace {

std::string Text(TextPlace place) {
  return std::to_string(place.line) + ":" + std::to_string(place.column);
}

TEST(JsonPlaces, FindsKeysAndValues) {
  constexpr char kText[] =
      "{\"a\": 1,\n"
      "  \"\\u0062\": [\"x,]}\\\"\", {\"c\": [true]}],\n"
      "  \"\xc3\xa4\": \"\xc3\xb6\", \"d\": {\"e\":null}\n"
      "}";
  const JsonPlaces places(kText);
  EXPECT_EQ(Text(places.Key("a")), "1:2");
  EXPECT_EQ(Text(places.Value("a")), "1:7");
  EXPECT_EQ(Text(places.Key("b")), "2:3") << "an escape in a key";
  EXPECT_EQ(Text(places.Value("b")), "2:13");
  EXPECT_EQ(Text(places.Value("b[0]")), "2:14");
  EXPECT_EQ(Text(places.Value("b[1]")), "2:24") << "brackets in a text end nothing";
  EXPECT_EQ(Text(places.Value("b[1].c")), "2:30");
  EXPECT_EQ(Text(places.Key("d")), "3:13") << "characters, not bytes";
  EXPECT_EQ(Text(places.Value("d.e")), "3:23");
  EXPECT_EQ(Text(places.Value("nowhere")), "0:0");
  EXPECT_TRUE(places.duplicates().empty());
}

TEST(JsonPlaces, FindsWhatStandsTwice) {
  const JsonPlaces places(R"({"a": 1, "b": {"a": 1, "a": 2}, "a": 3})");
  EXPECT_THAT(places.duplicates(), ::testing::ElementsAre("b.a", "a"));
}

// Not valid: nothing is promised but an end.
TEST(JsonPlaces, EndsOnAnyText) {
  for (const char* text : {"", "{", "]]", "\"", "{\"a\\", "[1,,2", "}{,\"x\""}) {
    (void)JsonPlaces(text);
  }
  (void)JsonPlaces(std::string(100'000, '['));
}

}  // namespace
}  // namespace bulkhead
