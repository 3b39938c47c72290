// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_fields.h"

#include <time.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "host/service/event_text.h"
#include "ipc/abi/names.h"

namespace bulkhead {
namespace {

constexpr uint64_t kMicrosecondsPerSecond = 1'000'000;

wire::LogLevel LevelOf(DriverEvent::Level level) {
  switch (level) {
    case DriverEvent::Level::kDebug:
      return wire::LogLevel::Debug;
    case DriverEvent::Level::kInfo:
      return wire::LogLevel::Info;
    case DriverEvent::Level::kWarning:
      return wire::LogLevel::Warning;
    case DriverEvent::Level::kError:
      break;
  }
  return wire::LogLevel::Error;
}

}  // namespace

uint64_t WallClockUs() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * kMicrosecondsPerSecond +
         static_cast<uint64_t>(now.tv_nsec) / 1000;
}

std::string TimeText(uint64_t at_us) {
  const auto seconds = static_cast<time_t>(at_us / kMicrosecondsPerSecond);
  tm parts = {};
  gmtime_r(&seconds, &parts);
  return absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", parts.tm_year + 1900,
                         parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                         at_us % kMicrosecondsPerSecond);
}

const char* LevelName(wire::LogLevel level) {
  switch (level) {
    case wire::LogLevel::Debug:
      return "debug";
    case wire::LogLevel::Info:
      return "info";
    case wire::LogLevel::Warning:
      return "warning";
    case wire::LogLevel::Error:
      return "error";
  }
  return "unknown";
}

EventFields FieldsOf(const DriverEvent& event, uint64_t at_us) {
  return {.at_us = at_us,
          .kind = DriverEventKindName(event.kind),
          .level = LevelOf(event.level),
          .driver = event.driver,
          .generation = event.generation,
          .pid = event.pid > 0 ? static_cast<uint32_t>(event.pid) : 0,
          .end = static_cast<uint8_t>(event.kind == DriverEventKind::kEnded ? event.end : 0),
          .content = event.content,
          .good_content = event.good_content,
          .call_id = event.call_id,
          .number = event.number,
          .owner = event.owner,
          .adopted_calls = event.adopted_calls,
          .text = event.text,
          .line = EventLine(event)};
}

std::string EventJson(const EventFields& event) {
  nlohmann::ordered_json json;
  const auto number = [&json](const char* name, uint64_t value) {
    if (value != 0) json[name] = value;
  };
  number("sequence", event.sequence);
  json["time"] = TimeText(event.at_us);
  json["level"] = LevelName(event.level);
  if (!event.kind.empty()) json["event"] = event.kind;
  if (!event.driver.empty()) json["driver"] = event.driver;
  number("generation", event.generation);
  number("pid", event.pid);
  if (event.kind == DriverEventKindName(DriverEventKind::kEnded)) {
    json["end"] = bh_end_name(event.end);
  }
  number("content", event.content);
  number("good_content", event.good_content);
  number("call_id", event.call_id);
  number("number", event.number);
  number("owner", event.owner);
  number("adopted_calls", event.adopted_calls);
  if (!event.text.empty()) json["text"] = event.text;
  json["line"] = event.line;
  return json.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

}  // namespace bulkhead
