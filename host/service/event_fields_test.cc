// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_fields.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
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

TEST(EventFields, ADenialHasItsObjectItsCallerAndWhyItIsOne) {
  bh_denial denial = {};
  denial.device = 2049;
  denial.inode = 12;
  denial.callback = BH_CALLBACK_FILE_OPEN;
  denial.by = BH_DENIED_BY_DRIVER;
  denial.error = 13;
  denial.pid = 7;
  std::memcpy(denial.why, "EICAR \xff", 7);
  std::memcpy(denial.comm, "cat", 3);
  std::memcpy(denial.exe, "/bin/cat", 8);
  std::memcpy(denial.path, "/srv/a", 6);
  DriverEvent event = DriverEvent::Of(DriverEventKind::kDenied);
  event.driver = "scanner";
  event.denial = std::make_shared<const bh_denial>(denial);
  nlohmann::json json = nlohmann::json::parse(EventJson(FieldsOf(event, 1)));
  EXPECT_EQ(json["event"], "Denied");
  EXPECT_EQ(json["mode"], "enforce");
  EXPECT_FALSE(json.contains("audited"));
  EXPECT_EQ(json["callback"], "file_open");
  EXPECT_EQ(json["denied_by"], "driver");
  EXPECT_FALSE(json.contains("reason"));
  EXPECT_EQ(json["rule"], "EICAR \uFFFD");
  EXPECT_EQ(json["errno"], 13);
  EXPECT_EQ(json["object"], nlohmann::json({{"device", 2049}, {"inode", 12}, {"path", "/srv/a"}}));
  EXPECT_EQ(json["caller"],
            nlohmann::json({{"pid", 7}, {"uid", 0}, {"comm", "cat"}, {"exe", "/bin/cat"}}));

  denial.by = BH_DENIED_BY_POLICY;
  denial.reason = BH_REASON_ABSENT;
  denial.audited = BH_AUDITED_DRIVER | BH_AUDITED_GUARD;
  denial.uid = UINT32_MAX;
  event = DriverEvent::Of(DriverEventKind::kWouldDeny);
  event.denial = std::make_shared<const bh_denial>(denial);
  json = nlohmann::json::parse(EventJson(FieldsOf(event, 1)));
  EXPECT_EQ(json["mode"], "audit");
  EXPECT_EQ(json["audited"], "driver,guard");
  EXPECT_EQ(json["reason"], "absent");
  EXPECT_FALSE(json["caller"].contains("uid")) << "not known";
}

}  // namespace
}  // namespace bulkhead
