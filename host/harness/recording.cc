// SPDX-License-Identifier: Apache-2.0
#include "host/harness/recording.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ipc/abi/names.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

using Json = nlohmann::ordered_json;

// A field of a line that is a number, and where it goes.
template <typename Struct>
struct NumberField {
  const char* name;
  uint64_t (*get)(const Struct&);
  void (*set)(Struct&, uint64_t);
  uint64_t max;
};

template <typename Struct, auto kMember>
constexpr NumberField<Struct> Field(const char* name) {
  using Value = std::remove_reference_t<decltype(std::declval<Struct&>().*kMember)>;
  return {name, [](const Struct& from) { return static_cast<uint64_t>(from.*kMember); },
          [](Struct& to, uint64_t value) { to.*kMember = static_cast<Value>(value); },
          std::numeric_limits<Value>::max()};
}

using Call = bulkhead_test_call;
constexpr NumberField<Call> kCallFields[] = {
    Field<Call, &Call::device>("device"), Field<Call, &Call::inode>("inode"),
    Field<Call, &Call::change>("change"), Field<Call, &Call::length>("length"),
    Field<Call, &Call::pid>("pid"),       Field<Call, &Call::uid>("uid"),
    Field<Call, &Call::gid>("gid"),       Field<Call, &Call::open_flags>("open_flags"),
};
using Told = bulkhead_notification;
constexpr NumberField<Told> kToldFields[] = {
    Field<Told, &Told::missed>("missed"),
    Field<Told, &Told::time_ns>("time_ns"),
    Field<Told, &Told::pid>("pid"),
    Field<Told, &Told::parent>("parent"),
    Field<Told, &Told::start_ns>("start_ns"),
    Field<Told, &Told::uid>("uid"),
    Field<Told, &Told::gid>("gid"),
    Field<Told, &Told::cgroup>("cgroup"),
    Field<Told, &Told::device>("device"),
    Field<Told, &Told::inode>("inode"),
    Field<Told, &Told::change>("change"),
    Field<Told, &Told::length>("length"),
    Field<Told, &Told::inode_generation>("inode_generation"),
    Field<Told, &Told::mode>("mode"),
    Field<Told, &Told::exit_code>("exit_code"),
};

bool IsUtf8(const std::string& text) {
  // dump() of a text that is not UTF-8 fails, or replaces what is wrong.
  const std::string shown =
      Json(text).dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::ignore);
  return Json::parse(shown).get_ref<const std::string&>() == text;
}

void SetText(Json& line, const std::string& field, const std::string& text) {
  if (text.empty()) return;
  if (IsUtf8(text)) {
    line[field] = text;
  } else {
    line[field + "_hex"] = absl::BytesToHexString(text);
  }
}

// Reads one line's object; the first thing that is wrong is kept.
class LineReader {
 public:
  LineReader(const Json& line, size_t number) : line_(line), number_(number) {}

  const Json* Find(const std::string& field) {
    known_.push_back(field);
    const auto found = line_.find(field);
    return found == line_.end() ? nullptr : &*found;
  }
  void Text(const std::string& field, std::string* text) {
    if (const Json* found = Find(field)) {
      if (!found->is_string()) return Fail(field, "must be a text");
      *text = found->get<std::string>();
    }
    if (const Json* found = Find(field + "_hex")) {
      const std::string digits = found->is_string() ? found->get<std::string>() : "x";
      if (digits.size() % 2 != 0 ||
          digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos) {
        return Fail(field + "_hex", "must be hexadecimal digits, two for each byte");
      }
      *text = absl::HexStringToBytes(digits);
    }
  }
  void Number(const std::string& field, uint64_t max, uint64_t* value) {
    const Json* found = Find(field);
    if (found == nullptr) return;
    if (!found->is_number_unsigned() || found->get<uint64_t>() > max) {
      return Fail(field, absl::StrCat("must be a whole number from 0 to ", max));
    }
    *value = found->get<uint64_t>();
  }
  template <typename Struct, size_t kCount>
  void Numbers(const NumberField<Struct> (&fields)[kCount], Struct* to) {
    for (const NumberField<Struct>& field : fields) {
      uint64_t value = field.get(*to);
      Number(field.name, field.max, &value);
      field.set(*to, value);
    }
  }
  void Flag(const std::string& field, uint32_t* value) {
    const Json* found = Find(field);
    if (found == nullptr) return;
    if (!found->is_boolean()) return Fail(field, "must be true or false");
    *value = found->get<bool>() ? 1 : 0;
  }
  void Fail(const std::string& field, const std::string& what) {
    status_.Update(
        absl::InvalidArgumentError(absl::StrCat("line ", number_, ": \"", field, "\" ", what)));
  }
  absl::Status Done() {
    for (const auto& item : line_.items()) {
      if (std::find(known_.begin(), known_.end(), item.key()) == known_.end()) {
        Fail(item.key(),
             absl::StrCat("is no field of such a line; it has ", absl::StrJoin(known_, ", ")));
      }
    }
    return status_;
  }

 private:
  const Json& line_;
  const size_t number_;
  std::vector<std::string> known_;
  absl::Status status_;
};

uint32_t CallbackNamed(const std::string& name) {
#define BH_CALLBACK_ROW(klass, index, NAME, row_name, kind, args, reply, reissue, flags, doc) \
  if (name == #row_name) return BH_CALLBACK_##NAME;
#include "ipc/abi/callbacks.def"
  return 0;
}

uint32_t KindNamed(const std::string& name) {
#define BH_NOTIFICATION_ROW(klass, index, NAME, row_name, body, doc) \
  if (name == #row_name) return BH_NOTIFY_##NAME;
#include "ipc/abi/notifications.def"
  return 0;
}

std::string TextOf(const Json& field) {
  return field.is_string() ? field.get<std::string>() : field.dump();
}

absl::StatusOr<RecordedEvent> ParseLine(const Json& line, size_t number) {
  LineReader reader(line, number);
  RecordedEvent event;
  event.line = number;
  if (const Json* name = reader.Find("call")) {
    RecordedCall recorded;
    recorded.call.size = sizeof(recorded.call);
    recorded.call.descriptor = -1;
    recorded.call.uid = recorded.call.gid = UINT32_MAX;
    recorded.call.callback = CallbackNamed(TextOf(*name));
    if (recorded.call.callback == 0) {
      reader.Fail("call", absl::StrCat("names no callback: '", TextOf(*name), "'"));
    }
    reader.Text("path", &recorded.path);
    reader.Flag("no_file", &recorded.call.no_file);
    reader.Numbers(kCallFields, &recorded.call);
    uint64_t deadline_ms = 0;
    reader.Number("deadline_ms", 3'600'000, &deadline_ms);
    recorded.call.deadline_ns = deadline_ms * kNanosecondsPerMillisecond;
    event.event = std::move(recorded);
  } else if (const Json* kind = reader.Find("notification")) {
    RecordedNotification recorded;
    recorded.notification.size = sizeof(recorded.notification);
    recorded.notification.uid = recorded.notification.gid = UINT32_MAX;
    recorded.notification.kind = KindNamed(TextOf(*kind));
    if (recorded.notification.kind == 0) {
      reader.Fail("notification", absl::StrCat("names no kind: '", TextOf(*kind), "'"));
    }
    reader.Text("text", &recorded.text);
    reader.Text("text2", &recorded.text2);
    reader.Numbers(kToldFields, &recorded.notification);
    event.event = std::move(recorded);
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "line ", number, ": has neither \"call\" nor \"notification\": it must have one of them"));
  }
  if (absl::Status status = reader.Done(); !status.ok()) return status;
  return event;
}

}  // namespace

std::string CallText(const bulkhead_test_call& call) {
  Json line;
  line["call"] = bh_callback_name(call.callback);
  const std::string path = call.path == nullptr    ? std::string()
                           : call.path_length != 0 ? std::string(call.path, call.path_length)
                                                   : std::string(call.path);
  SetText(line, "path", path);
  if (call.no_file != 0) line["no_file"] = true;
  for (const auto& field : kCallFields) {
    const bool id = std::strcmp(field.name, "uid") == 0 || std::strcmp(field.name, "gid") == 0;
    const uint64_t value = field.get(call);
    if (value != (id ? UINT32_MAX : 0)) line[field.name] = value;
  }
  if (call.deadline_ns != 0) line["deadline_ms"] = call.deadline_ns / kNanosecondsPerMillisecond;
  return line.dump();
}

std::string NotificationText(const bulkhead_notification& notification) {
  Json line;
  line["notification"] = bh_notification_name(notification.kind);
  SetText(line, "text", std::string(notification.text, notification.text_length));
  SetText(line, "text2", std::string(notification.text2, notification.text2_length));
  for (const auto& field : kToldFields) {
    const bool id = std::strcmp(field.name, "uid") == 0 || std::strcmp(field.name, "gid") == 0;
    const uint64_t value = field.get(notification);
    if (value != (id ? UINT32_MAX : 0)) line[field.name] = value;
  }
  return line.dump();
}

absl::Status AppendToRecording(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::app | std::ios::binary);
  file << text << '\n';
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat(path, ": can't be written"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RecordedEvent>> ParseRecording(std::string_view text) {
  std::vector<RecordedEvent> events;
  std::istringstream lines{std::string(text)};
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos || line[0] == '#') continue;
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": is not a JSON object on one line"));
    }
    absl::StatusOr<RecordedEvent> event = ParseLine(json, number);
    if (!event.ok()) return event.status();
    events.push_back(*std::move(event));
  }
  return events;
}

absl::StatusOr<std::vector<RecordedEvent>> ReadRecording(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  absl::StatusOr<std::vector<RecordedEvent>> events = ParseRecording(text);
  if (!events.ok()) {
    return absl::Status(events.status().code(),
                        absl::StrCat(path, ": ", events.status().message()));
  }
  std::error_code error;
  const std::filesystem::path folder =
      std::filesystem::absolute(path, error).lexically_normal().parent_path();
  for (RecordedEvent& event : *events) {
    auto* call = std::get_if<RecordedCall>(&event.event);
    if (call == nullptr || call->call.no_file != 0 || call->path.empty()) continue;
    if (call->path[0] != '/') call->path = (folder / call->path).string();
  }
  return events;
}

}  // namespace bulkhead
