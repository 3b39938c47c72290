// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_text.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace bulkhead {
namespace {

TEST(EventText, EachKindHasATextOfItsOwn) {
  std::set<std::string> texts, names;
  for (int kind = 0; kind < kDriverEventKindCount; ++kind) {
    auto event = DriverEvent::Of(static_cast<DriverEventKind>(kind));
    event.text = DriverEventKindName(event.kind);
    texts.insert(EventText(event));
    names.insert(DriverEventKindName(event.kind));
  }
  EXPECT_EQ(texts.size(), size_t{kDriverEventKindCount});
  EXPECT_EQ(names.size(), size_t{kDriverEventKindCount});
  EXPECT_EQ(texts.count(""), 0u);
}

TEST(EventText, AQuarantinedFileIsNotACall) {
  DriverEvent event = DriverEvent::Of(DriverEventKind::kCallQuarantined);
  EXPECT_NE(EventText(event).find("a file is quarantined"), std::string::npos);
  event.call_id = 7;
  EXPECT_NE(EventText(event).find("call 7 is quarantined"), std::string::npos);
}

TEST(EventText, TheLineNamesTheGenerationThatTheEventIsAbout) {
  DriverEvent event = DriverEvent::Of(DriverEventKind::kEnded);
  event.driver = "scanner";
  event.generation = 3;
  event.pid = 42;
  event.end = BH_END_KILLED;
  event.text = "signal 9 (Killed)\x1b[2J";
  EXPECT_EQ(EventLine(event), "scanner g3 (pid 42): killed: signal 9 (Killed)?[2J");
}

TEST(EventText, ALineOfALogHasItsTimeAndLevel) {
  DriverEvent event = DriverEvent::Of(DriverEventKind::kLog);
  event.level = DriverEvent::Level::kWarning;
  event.text = "low on rules";
  event.time_ns = 1'796'058'134'123'456'789;
  EXPECT_EQ(EventText(event), "says (2026-11-30T17:02:14.123Z, warning): low on rules");
}

TEST(EventText, AnEventOfTheShimNamesNoDriver) {
  EXPECT_EQ(EventLine(DriverEvent::Of(DriverEventKind::kShimLost)),
            "bulkhead: the shim is gone; its hosts start again");
}

}  // namespace
}  // namespace bulkhead
