// SPDX-License-Identifier: Apache-2.0
#include "host/service/config_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "host/service/config_values.h"
#include "host/supervisor/nearest_name.h"
#include "ipc/abi/names.h"
#include "ipc/unique_fd.h"
#include "toml++/toml.h"

namespace bulkhead {
namespace {

using Section = ConfigMistake::Section;

constexpr size_t kFileBytesMax = 1 << 20;

std::string KindOf(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or a time of day";
  }
}

std::string Quoted(const std::string& text) { return absl::StrCat("'", text, "'"); }

std::string ListOf(const std::vector<std::string>& names) { return absl::StrJoin(names, ", "); }

// "; did you mean 'a'?", or all that there are.
std::string Suggestion(const std::string& word, const std::vector<std::string>& names) {
  std::string nearest = DidYouMean(word, names);
  return nearest.empty() ? absl::StrCat("; known: ", ListOf(names)) : nearest;
}

std::vector<std::string> ReasonNames() {
  std::vector<std::string> names;
  for (uint32_t reason = 0; reason < BH_REASON_COUNT; ++reason) {
    names.emplace_back(bh_reason_name(reason));
  }
  return names;
}

// Reads a parsed file into a ServiceConfig. What can't be used is noted, and its default stays.
class Reader {
 public:
  Reader(AttachmentRows rows, ParsedConfig& parsed) : rows_(rows), parsed_(parsed) {}

  void Read(const toml::table& root) {
    Known(root, "");
    if (const toml::table* service = Table(root, "service")) ReadService(*service);
    if (const toml::table* groups = Table(root, "operators")) ReadOperators(*groups);
    bh_policy policy = DefaultPolicy();
    if (const toml::table* rules = Table(root, "policy")) ReadPolicy(*rules, policy);
    for (const toml::table* table : Tables(root, "driver")) ReadDriver(*table, policy);
    for (const toml::table* table : Tables(root, "guard")) ReadGuard(*table);
    if (parsed_.config.guards.empty() && !has_wrong_guards_) {
      Wrong(root.source(), "guard: there is none; add [[guard]] with a folder");
    }
    AddMistakes();
  }

 private:
  ServiceConfig& config() { return parsed_.config; }

  void Wrong(const toml::source_region& where, std::string text) {
    parsed_.mistakes.push_back(
        {std::max(where.begin.line, 1u), std::max(where.begin.column, 1u), std::move(text)});
  }

  // Notes the keys that are not in kConfigKeys.
  void Known(const toml::table& table, const std::string& name) {
    std::vector<std::string> keys;
    const std::string below = name.empty() ? "" : name + ".";
    for (const ConfigKey& row : kConfigKeys) {
      const std::string_view of = row.table;
      std::string key = of == name ? row.key : "";
      if (of.starts_with(below) && of != name) {
        key = of.substr(below.size(), of.find('.', below.size()) - below.size());
      }
      if (!key.empty() && std::find(keys.begin(), keys.end(), key) == keys.end()) {
        keys.push_back(key);
      }
    }
    Known(table, name, keys);
  }

  void Known(const toml::table& table, const std::string& name,
             const std::vector<std::string>& keys) {
    for (const auto& [key, node] : table) {
      const std::string word(key.str());
      if (std::find(keys.begin(), keys.end(), word) != keys.end()) continue;
      Wrong(key.source(), absl::StrCat("unknown key ",
                                       Quoted(name.empty() ? word : absl::StrCat(name, ".", word)),
                                       Suggestion(word, keys)));
    }
  }

  const toml::table* Table(const toml::table& in, const char* key) {
    const toml::node* node = in.get(key);
    if (node == nullptr || node->is_table()) return node == nullptr ? nullptr : node->as_table();
    Wrong(node->source(), absl::StrCat(key, ": expected a table, found ", KindOf(*node)));
    return nullptr;
  }

  std::vector<const toml::table*> Tables(const toml::table& in, const char* key) {
    std::vector<const toml::table*> tables;
    bool& has_wrong = *key == 'g' ? has_wrong_guards_ : has_wrong_drivers_;
    const toml::node* node = in.get(key);
    if (node == nullptr) return tables;
    const toml::array* list = node->as_array();
    if (list == nullptr) {
      Wrong(node->source(), absl::StrCat(key, ": expected a list of tables, found ", KindOf(*node),
                                         "; write [[", key, "]]"));
      has_wrong = true;
      return tables;
    }
    for (const toml::node& element : *list) {
      if (element.is_table()) {
        tables.push_back(element.as_table());
      } else {
        Wrong(element.source(), absl::StrCat(key, ": expected a table, found ", KindOf(element)));
        has_wrong = true;
      }
    }
    return tables;
  }

  // Notes where a field of the configuration stands, for what CheckConfig finds.
  void Note(Section section, size_t index, const char* field, const toml::source_region& where) {
    places_[{section, index, field}] = where;
  }

  template <typename T>
  std::optional<T> Value(const toml::table& table, const char* key, const char* expected) {
    const toml::node* node = table.get(key);
    if (node == nullptr) return std::nullopt;
    if (const toml::value<T>* value = node->as<T>()) return value->get();
    Wrong(node->source(), absl::StrCat(key, ": expected ", expected, ", found ", KindOf(*node)));
    return std::nullopt;
  }

  std::optional<std::string> Text(const toml::table& table, const char* key,
                                  const char* expected = "a text") {
    std::optional<std::string> text = Value<std::string>(table, key, expected);
    if (!text.has_value() || text->find('\0') == std::string::npos) return text;
    Wrong(table.get(key)->source(), absl::StrCat(key, ": the text has a NUL in it"));
    return std::nullopt;
  }

  std::vector<std::pair<std::string, toml::source_region>> Texts(const toml::table& table,
                                                                 const char* key) {
    std::vector<std::pair<std::string, toml::source_region>> texts;
    const toml::node* node = table.get(key);
    if (node == nullptr) return texts;
    const toml::array* list = node->as_array();
    if (list == nullptr) {
      Wrong(node->source(), absl::StrCat(key, ": expected a list of texts, found ", KindOf(*node)));
      return texts;
    }
    for (const toml::node& element : *list) {
      if (const toml::value<std::string>* text = element.as_string()) {
        texts.emplace_back(text->get(), element.source());
      } else {
        Wrong(element.source(), absl::StrCat(key, ": expected a text, found ", KindOf(element)));
      }
    }
    return texts;
  }

  // One of `names`; empty when there is none, or another.
  std::string OneOf(const toml::table& table, const char* key,
                    const std::vector<std::string>& names) {
    const std::optional<std::string> text = Text(table, key);
    if (!text.has_value()) return "";
    if (std::find(names.begin(), names.end(), *text) != names.end()) return *text;
    Wrong(table.get(key)->source(), absl::StrCat(key, ": ", Quoted(*text), " is not one of ",
                                                 ListOf(names), DidYouMean(*text, names)));
    return "";
  }

  std::optional<uint32_t> Number(const toml::table& table, const char* key, uint32_t max) {
    const std::optional<int64_t> value = Value<int64_t>(table, key, "a whole number");
    if (!value.has_value() || (*value >= 0 && *value <= max)) {
      return value.has_value() ? std::optional(static_cast<uint32_t>(*value)) : std::nullopt;
    }
    Wrong(table.get(key)->source(), absl::StrCat(key, ": ", *value, " is not between 0 and ", max));
    return std::nullopt;
  }

  std::optional<uint64_t> Duration(const toml::table& table, const char* key, bool never) {
    const std::optional<std::string> text =
        Text(table, key, "a time as a text: \"500ms\", \"5s\", \"2m\"");
    if (!text.has_value()) return std::nullopt;
    if (never && *text == "never") return 0;
    const absl::StatusOr<uint64_t> ns = ParseDuration(*text);
    if (ns.ok()) return *ns;
    Wrong(table.get(key)->source(), absl::StrCat(key, ": ", std::string(ns.status().message())));
    return std::nullopt;
  }

  std::optional<std::string> Path(const toml::table& table, const char* key) {
    std::optional<std::string> path = Text(table, key);
    if (path.has_value() && !IsAbsolute(key, *path, table.get(key)->source())) return std::nullopt;
    return path;
  }

  bool IsAbsolute(const char* key, const std::string& path, const toml::source_region& where) {
    if (!path.empty() && path.front() == '/') return true;
    Wrong(where,
          absl::StrCat(key, ": ", Quoted(path), " is not an absolute path; begin it with a slash"));
    return false;
  }

  void ReadService(const toml::table& table) {
    Known(table, "service");
    std::vector<std::string> names = {"auto"}, limits;
    for (const AttachmentKind* kind : rows_) {
      if (kind->can(kGuardsFolders)) names.emplace_back(kind->name);
      for (const AttachmentLimit& limit : kind->limits) {
        if (std::find(limits.begin(), limits.end(), limit.name) == limits.end()) {
          limits.emplace_back(limit.name);
        }
      }
    }
    if (const std::string name = OneOf(table, "attachment", names); !name.empty()) {
      config().attachment = name;
    }
    for (const auto& [name, where] : Texts(table, "accept")) {
      if (std::find(limits.begin(), limits.end(), name) == limits.end()) {
        Wrong(where, absl::StrCat("accept: ", Quoted(name), " is not one of ", ListOf(limits),
                                  DidYouMean(name, limits)));
      } else {
        config().accepted.insert(name);
      }
    }
    if (const auto retry_ns = Duration(table, "quarantine-retry", /*never=*/true)) {
      config().limits.retry_ns = *retry_ns;
    }
    if (const auto level = Text(table, "require-sandbox")) {
      const absl::StatusOr<bh_sandbox_level> parsed = ParseSandboxLevel(*level);
      if (parsed.ok()) {
        config().sandbox_required = *parsed;
      } else {
        Wrong(table.get("require-sandbox")->source(),
              absl::StrCat("require-sandbox: ", std::string(parsed.status().message())));
      }
    }
    Note(Section::kService, 0, "metrics", PlaceOf(table, "metrics"));
    if (const auto address = Text(table, "metrics")) config().metrics = *address;
    Note(Section::kService, 0, "page", PlaceOf(table, "page"));
    config().page = Value<bool>(table, "page", "true or false").value_or(false);
    std::vector<std::string> on_stops;
    for (const OnStop on_stop : kOnStops) on_stops.emplace_back(OnStopName(on_stop));
    const std::string on_stop = OneOf(table, "on-stop", on_stops);
    if (!on_stop.empty()) {
      config().on_stop = on_stop == OnStopName(OnStop::kKeep) ? OnStop::kKeep : OnStop::kRelease;
    }
    std::vector<std::string> formats;
    for (const LogFormat format : kLogFormats) formats.emplace_back(LogFormatName(format));
    const std::string log = OneOf(table, "log", formats);
    for (const LogFormat format : kLogFormats) {
      if (log == LogFormatName(format)) config().log = format;
    }
  }

  void ReadOperators(const toml::table& table) {
    Known(table, "operators");
    config().operators.readers = Group(table, "readers");
    config().operators.admins = Group(table, "admins");
  }

  // By its name, or its id as a number.
  std::optional<OperatorGroup> Group(const toml::table& table, const char* key) {
    const toml::node* node = table.get(key);
    if (node == nullptr) return std::nullopt;
    std::optional<std::string> name;
    if (const toml::value<int64_t>* id = node->as_integer()) {
      name = absl::StrCat(id->get());
    } else {
      name = Text(table, key, "a group's name or id");
    }
    if (!name.has_value()) return std::nullopt;
    absl::StatusOr<OperatorGroup> group = FindOperatorGroup(*name);
    if (group.ok()) return *std::move(group);
    Wrong(node->source(), absl::StrCat(key, ": ", std::string(group.status().message())));
    return std::nullopt;
  }

  // Rules for all classes first: what is said of a class is more special.
  void ReadPolicy(const toml::table& table, bh_policy& policy) {
    const std::vector<std::string> reasons = ReasonNames();
    std::vector<std::string> known = reasons;
    std::map<std::string, uint32_t> classes;
    for (uint32_t klass = 1; klass < BH_CLASS_COUNT; ++klass) {
      classes.emplace(bh_class_name(klass), klass);
      known.emplace_back(bh_class_name(klass));
    }
    Known(table, "policy", known);
    ReadRules(table, reasons, [&policy](uint32_t reason, bh_rule rule) {
      for (auto& rules : policy.rule) rules[reason] = rule;
    });
    for (const auto& [name, klass] : classes) {
      const toml::table* rules = Table(table, name.c_str());
      if (rules == nullptr) continue;
      Known(*rules, absl::StrCat("policy.", name), reasons);
      ReadRules(*rules, reasons, [&policy, of = klass](uint32_t reason, bh_rule rule) {
        policy.rule[of][reason] = rule;
      });
    }
  }

  template <typename Set>
  void ReadRules(const toml::table& table, const std::vector<std::string>& reasons, Set set) {
    for (uint32_t reason = 0; reason < reasons.size(); ++reason) {
      const char* key = reasons[reason].c_str();
      const std::optional<std::string> text = Text(table, key);
      if (!text.has_value()) continue;
      const absl::StatusOr<bh_rule> rule = ParseRule(*text);
      if (rule.ok()) {
        set(reason, *rule);
      } else {
        Wrong(table.get(key)->source(),
              absl::StrCat(key, ": ", std::string(rule.status().message())));
      }
    }
  }

  void ReadMode(const toml::table& table, bh_mode* mode) {
    const std::vector<std::string> names = {bh_mode_name(BH_MODE_ENFORCE),
                                            bh_mode_name(BH_MODE_AUDIT)};
    const std::string name = OneOf(table, "mode", names);
    if (!name.empty()) *mode = name == names.back() ? BH_MODE_AUDIT : BH_MODE_ENFORCE;
  }

  // Where a key stands; the table when it has no such key.
  static toml::source_region PlaceOf(const toml::table& table, const char* key) {
    const toml::node* node = table.get(key);
    return node == nullptr ? table.source() : node->source();
  }

  void ReadDriver(const toml::table& table, const bh_policy& policy) {
    Known(table, "driver");
    const size_t index = config().drivers.size();
    ServiceDriver driver;
    driver.policy = policy;
    Note(Section::kDriver, index, "driver", PlaceOf(table, "name"));
    for (const char* field : {"content", "cache", "spin", "policy"}) {
      Note(Section::kDriver, index, field, PlaceOf(table, field));
    }
    if (const auto name = Text(table, "name")) {
      driver.driver = *name;
      if (name->find('/') != std::string::npos) IsAbsolute("name", *name, PlaceOf(table, "name"));
    } else if (table.contains("name")) {
      has_wrong_drivers_ = true;
      return;
    }
    if (const auto folder = Path(table, "content")) driver.content_folder = *folder;
    if (const auto options = Text(table, "options")) driver.options = *options;
    if (const auto entries = Number(table, "cache", UINT32_MAX)) driver.cache_entries = *entries;
    if (const auto spin_us = Number(table, "spin", UINT32_MAX)) driver.spin_us = *spin_us;
    if (const toml::table* rules = Table(table, "policy")) ReadPolicy(*rules, driver.policy);
    bh_mode mode = BH_MODE_ENFORCE;
    ReadMode(table, &mode);
    driver.policy.mode = static_cast<uint8_t>(mode);
    config().drivers.push_back(driver);
  }

  void ReadGuard(const toml::table& table) {
    Known(table, "guard");
    const size_t index = config().guards.size();
    GuardSpec guard;
    Note(Section::kGuard, index, "guard", PlaceOf(table, "folder"));
    for (const char* field : {"events", "deadline", "skip-under"}) {
      Note(Section::kGuard, index, field, PlaceOf(table, field));
    }
    if (!table.contains("folder"))
      Wrong(table.source(), "guard: it has no folder; add folder = \"/…\"");
    const std::optional<std::string> folder = Path(table, "folder");
    if (!folder.has_value()) has_wrong_guards_ = true;
    guard.folder = folder.value_or("/");
    ReadEvents(table, guard);
    std::vector<std::string> marks;
    for (const MarkKind kind : kMarkKinds) marks.emplace_back(MarkKindName(kind));
    const std::string mark = OneOf(table, "mark", marks);
    for (const MarkKind kind : kMarkKinds) {
      if (mark == MarkKindName(kind)) guard.mark = kind;
    }
    ReadMode(table, &guard.mode);
    if (const auto deadline_ns = Duration(table, "deadline", /*never=*/false)) {
      guard.deadline_ns = *deadline_ns;
    }
    for (const auto& [path, where] : Texts(table, "skip-under")) {
      if (IsAbsolute("skip-under", path, where)) guard.filter.skip_under.push_back(path);
    }
    if (const toml::table* only = Table(table, "only")) ReadFilter(*only, index, guard.filter);
    if (folder.has_value()) config().guards.push_back(guard);
  }

  void ReadEvents(const toml::table& table, GuardSpec& guard) {
    if (!table.contains("events")) return;
    std::vector<std::string> names;
    for (const EventName& event : EventNames()) names.push_back(event.name);
    const auto texts = Texts(table, "events");
    bh_callback_set callbacks = {};
    for (const auto& [text, where] : texts) {
      const auto event =
          std::find_if(EventNames().begin(), EventNames().end(),
                       [&name = text](const EventName& row) { return row.name == name; });
      if (event != EventNames().end()) {
        bh_set_add(&callbacks, event->callback);
      } else {
        Wrong(where, absl::StrCat("events: ", Quoted(text), " is not one of ", ListOf(names),
                                  DidYouMean(text, names)));
      }
    }
    const toml::array* list = table.get("events")->as_array();
    const bool said = bh_set_empty(&callbacks) != 0 && (list == nullptr || !list->empty());
    if (!said) guard.callbacks = callbacks;
  }

  void ReadFilter(const toml::table& table, size_t index, GuardFilter& filter) {
    Known(table, "guard.only");
    const std::string mode = OneOf(table, "opened-for", {"read", "write"});
    if (!mode.empty()) filter.mode = mode == "read" ? AccessMode::kRead : AccessMode::kWrite;
    filter.owner = Number(table, "owner", UINT32_MAX - 1);
    Note(Section::kGuard, index, "extensions", PlaceOf(table, "extensions"));
    for (const auto& [extension, where] : Texts(table, "extensions")) {
      filter.extensions.push_back(extension);
    }
  }

  // What is wrong with the values, wherever they come from. That a list is empty because what it
  // had could not be used was said.
  void AddMistakes() {
    for (const ConfigMistake& mistake : ConfigMistakes(config())) {
      const bool lacks_drivers = mistake.section == Section::kService && mistake.field == "driver";
      if (lacks_drivers && has_wrong_drivers_) continue;
      const auto place = places_.find({mistake.section, mistake.index, mistake.field});
      std::string text(mistake.status.message());
      if (lacks_drivers) absl::StrAppend(&text, "; add [[driver]] with a name");
      Wrong(place == places_.end() ? toml::source_region{} : place->second, std::move(text));
    }
    std::stable_sort(parsed_.mistakes.begin(), parsed_.mistakes.end(),
                     [](const FileMistake& a, const FileMistake& b) {
                       return std::tie(a.line, a.column) < std::tie(b.line, b.column);
                     });
  }

  const AttachmentRows rows_;
  ParsedConfig& parsed_;
  std::map<std::tuple<Section, size_t, std::string>, toml::source_region> places_;
  bool has_wrong_drivers_ = false;
  bool has_wrong_guards_ = false;
};

absl::Status CantRead(const std::string& path, const std::string& why) {
  const std::string text = absl::StrCat("can't read the configuration ", path, ": ", why);
  return errno == ENOENT ? absl::NotFoundError(text) : absl::PermissionDeniedError(text);
}

}  // namespace

std::string MistakeText(const std::string& path, const FileMistake& mistake) {
  return absl::StrCat(path, ":", mistake.line, ":", mistake.column, ": ", mistake.text);
}

ParsedConfig ParseConfig(std::string_view text, AttachmentRows rows) {
  ParsedConfig parsed;
  try {
    const toml::table root = toml::parse(text);
    Reader(rows, parsed).Read(root);
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    parsed.mistakes = {{at.line, at.column, std::string(error.description())}};
  }
  return parsed;
}

absl::StatusOr<ParsedConfig> ReadConfigFile(const std::string& path, AttachmentRows rows) {
  // Not a file that makes us wait: a pipe, a device.
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file.valid()) {
    return CantRead(path, absl::StrCat(std::strerror(errno),
                                       errno == ENOENT ? "; write it, or name another file" : ""));
  }
  struct stat status = {};
  if (fstat(file.get(), &status) != 0) return CantRead(path, std::strerror(errno));
  errno = 0;
  if (!S_ISREG(status.st_mode)) return CantRead(path, "it is not a file");
  if (status.st_uid != 0 && status.st_uid != geteuid()) {
    return CantRead(
        path, absl::StrCat("its owner is user ", status.st_uid,
                           ": that user could change what this service does; make it root's"));
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return CantRead(path, "other users than its owner can write to it; chmod go-w it");
  }
  std::string text;
  std::array<char, 65536> chunk;
  for (;;) {
    const ssize_t bytes = read(file.get(), chunk.data(), chunk.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return CantRead(path, std::strerror(errno));
    if (bytes == 0) break;
    text.append(chunk.data(), static_cast<size_t>(bytes));
    if (text.size() > kFileBytesMax) return CantRead(path, "it is larger than 1 MiB");
  }
  return ParseConfig(text, rows);
}

}  // namespace bulkhead
