// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_fields.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace bulkhead {
namespace {

TEST(EventFields, ATimeIsInUtcWithMicroseconds) {
  EXPECT_EQ(TimeText(0), "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(TimeText(1'700'000'000'000'042), "2023-11-14T22:13:20.000042Z");
}

TEST(EventFields, AnEventIsOneLineOfJson) {
  DriverEvent event = DriverEvent::Of(DriverEventKind::kEnded);
  event.driver = "scanner";
  event.generation = 3;
  event.pid = 42;
  event.end = BH_END_KILLED;
  event.text = "two\nlines \xff";
  const std::string line = EventJson(FieldsOf(event, 1'700'000'000'000'042));
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const nlohmann::json json = nlohmann::json::parse(line);
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.000042Z");
  EXPECT_EQ(json["event"], "Ended");
  EXPECT_EQ(json["level"], "warning");
  EXPECT_EQ(json["driver"], "scanner");
  EXPECT_EQ(json["generation"], 3);
  EXPECT_EQ(json["pid"], 42);
  EXPECT_EQ(json["end"], "killed");
  EXPECT_EQ(json["text"], "two\nlines \uFFFD");
  EXPECT_EQ(json["line"], "scanner g3 (pid 42): killed: two?lines \uFFFD");
}

TEST(EventFields, WhatAKindDoesNotHaveIsLeftOut) {
  const nlohmann::json json =
      nlohmann::json::parse(EventJson(FieldsOf(DriverEvent::Of(DriverEventKind::kShimLost), 1)));
  EXPECT_EQ(json.size(), 4u) << json;
  for (const char* name : {"time", "level", "event", "line"}) EXPECT_TRUE(json.contains(name));
}

}  // namespace
}  // namespace bulkhead
