// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_fields.h"

#include <time.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
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
  EventFields fields = {
      .at_us = at_us,
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
  if (event.denial == nullptr) return fields;
  const bh_denial& denial = *event.denial;
  fields.callback = denial.callback;
  fields.denied_by = static_cast<uint8_t>(denial.by);
  fields.reason = static_cast<uint8_t>(denial.reason);
  fields.audited = static_cast<uint8_t>(denial.audited);
  fields.error = denial.error;
  fields.device = denial.device;
  fields.inode = denial.inode;
  fields.caller_pid = denial.pid;
  fields.caller_uid = denial.uid;
  fields.rule = DenialText(denial.why);
  fields.path = DenialText(denial.path);
  fields.comm = DenialText(denial.comm);
  fields.exe = DenialText(denial.exe);
  return fields;
}

std::string AuditedText(uint32_t audited) {
  std::string text;
#define BH_ROW(id, NAME, name, doc) \
  if ((audited & BH_AUDITED_##NAME) != 0) absl::StrAppend(&text, text.empty() ? "" : ",", #name);
  BH_FOR_EACH_AUDIT(BH_ROW)
#undef BH_ROW
  return text;
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
  if (event.denied_by != 0) {
    json["mode"] = event.audited != 0 ? bh_mode_name(BH_MODE_AUDIT) : bh_mode_name(BH_MODE_ENFORCE);
    if (event.audited != 0) json["audited"] = AuditedText(event.audited);
    json["callback"] = bh_callback_name(event.callback);
    json["denied_by"] = bh_denied_by_name(event.denied_by);
    if (event.denied_by == BH_DENIED_BY_POLICY) json["reason"] = bh_reason_name(event.reason);
    if (!event.rule.empty()) json["rule"] = event.rule;
    number("errno", event.error);
    if (event.inode != 0) {
      json["object"] = {{"device", event.device}, {"inode", event.inode}};
    }
    if (!event.path.empty()) json["object"]["path"] = event.path;
    if (event.caller_pid != 0) json["caller"]["pid"] = event.caller_pid;
    if (event.caller_uid != UINT32_MAX) json["caller"]["uid"] = event.caller_uid;
    if (!event.comm.empty()) json["caller"]["comm"] = event.comm;
    if (!event.exe.empty()) json["caller"]["exe"] = event.exe;
  } else if (!event.text.empty()) {
    json["text"] = event.text;
  }
  json["line"] = event.line;
  return json.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

}  // namespace bulkhead
