// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/manifest.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "host/supervisor/json_places.h"
#include "host/supervisor/nearest_name.h"
#include "ipc/abi/callbacks.h"
#include "ipc/abi/notification.h"
#include "ipc/control/envelope.h"

namespace bulkhead {
namespace {

using Json = nlohmann::json;

constexpr size_t kManifestBytesMax = 64 * 1024;
constexpr uint32_t kDriverAbi = 1;

using Problems = std::vector<ManifestProblem>;

// Reads the fields of one JSON object. Of each field the first thing that is wrong is kept: what
// follows from it would be said too.
class Reader {
 public:
  // `prefix` begins the paths of its fields: "content.".
  Reader(const Json& object, const JsonPlaces& places, std::string prefix, Problems* problems)
      : object_(object), places_(places), prefix_(std::move(prefix)), problems_(problems) {}

  void Text(const char* field, std::string* value, bool required) {
    const Json* found = Find(field, required);
    if (found == nullptr) return;
    if (!found->is_string()) return Fail(field, "must be a text, not ", found->type_name());
    *value = found->get<std::string>();
    if (value->find('\0') != std::string::npos) Fail(field, "must not contain a zero byte");
    if (required && value->empty()) Fail(field, "must not be empty");
  }
  void Number(const char* field, uint32_t low, uint32_t high, uint32_t* value, bool required) {
    const Json* found = Find(field, required);
    if (found == nullptr) return;
    if (!found->is_number_unsigned() || found->get<uint64_t>() < low ||
        found->get<uint64_t>() > high) {
      return Fail(field, "must be a whole number from ", low, " to ", high, ", not ",
                  Short(*found));
    }
    *value = found->get<uint32_t>();
  }
  void Flag(const char* field, bool* value) {
    const Json* found = Find(field, false);
    if (found == nullptr) return;
    if (!found->is_boolean()) return Fail(field, "must be true or false, not ", Short(*found));
    *value = found->get<bool>();
  }
  void Flag(const char* field, uint32_t bit, uint32_t* flags) {
    bool value = (*flags & bit) != 0;
    Flag(field, &value);
    *flags = value ? *flags | bit : *flags & ~bit;
  }
  const Json* Find(const char* field, bool required) {
    known_.push_back(field);
    const auto found = object_.find(field);
    if (found != object_.end()) return &*found;
    if (required) Fail(field, "is missing");
    return nullptr;
  }
  template <typename... Words>
  void Fail(const std::string& field, const Words&... words) {
    if (std::find(failed_.begin(), failed_.end(), field) != failed_.end()) return;
    failed_.push_back(field);
    AddAt(places_.Value(prefix_ + field), field, words...);
  }
  // An entry of a list: each has a place of its own.
  template <typename... Words>
  void FailEntry(const std::string& field, size_t index, const Words&... words) {
    failed_.push_back(field);
    AddAt(places_.Value(absl::StrCat(prefix_, field, "[", index, "]")), field, words...);
  }
  // A value in a few words.
  static std::string Short(const Json& value) {
    const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.size() <= kShownBytesMax ? text : absl::StrCat("a longer ", value.type_name());
  }
  // Refuses unknown fields: a misspelt one must not be passed over.
  void Done() {
    for (const auto& item : object_.items()) {
      if (std::find(known_.begin(), known_.end(), item.key()) != known_.end()) continue;
      const std::string meant = DidYouMean(item.key(), known_);
      AddAt(places_.Key(prefix_ + item.key()), item.key(),
            prefix_.empty() ? "is no field of a manifest" : "is no field of it",
            meant.empty() ? "; there are " : absl::StrCat(meant, " There are "),
            absl::StrJoin(known_, ", "));
    }
  }

 private:
  static constexpr size_t kShownBytesMax = 40;

  template <typename... Words>
  void AddAt(TextPlace place, const std::string& field, const Words&... words) {
    problems_->push_back(
        {.place = place, .field = prefix_ + field, .text = absl::StrCat(words...)});
  }

  const Json& object_;
  const JsonPlaces& places_;
  const std::string prefix_;
  Problems* const problems_;
  std::vector<std::string> known_;
  std::vector<std::string> failed_;
};

// Stays inside the manifest's folder.
bool GoodPath(std::string_view path) {
  if (path.empty() || path[0] == '/') return false;
  for (const absl::string_view part :
       absl::StrSplit(absl::string_view(path.data(), path.size()), '/')) {
    if (part == "..") return false;
  }
  return true;
}

struct Name {
  std::string_view name;
  uint32_t id;
};
constexpr Name kCallbacks[] = {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
  {#name, BH_CALLBACK_##NAME},
#include "ipc/abi/callbacks.def"
};
constexpr Name kNotifications[] = {
#define BH_NOTIFICATION_ROW(klass, index, NAME, name, body, doc) {#name, BH_NOTIFY_##NAME},
#include "ipc/abi/notifications.def"
};

// A list of names, one of `known` each.
template <size_t kCount>
void ReadNames(Reader& reader, const char* field, bool required, const Name (&known)[kCount],
               bh_callback_set* set) {
  const Json* list = reader.Find(field, required);
  if (list == nullptr) return;
  if (!list->is_array() || (required && list->empty())) {
    return reader.Fail(
        field, "must be a list of names",
        list->is_array() ? ": at least one" : absl::StrCat(", not ", list->type_name()));
  }
  std::vector<std::string> names;
  for (const Name& name : known) names.emplace_back(name.name);
  for (size_t i = 0; i < list->size(); ++i) {
    const Json& item = (*list)[i];
    const std::string given = item.is_string() ? item.get<std::string>() : Reader::Short(item);
    const auto found =
        item.is_string() ? std::find(names.begin(), names.end(), given) : names.end();
    if (found == names.end()) {
      reader.FailEntry(field, i, "has the entry '", given, "', which is not one of ",
                       absl::StrJoin(names, ", "), DidYouMean(given, names));
      continue;
    }
    bh_set_add(set, known[found - names.begin()].id);
  }
}

void ReadPaths(Reader& reader, const char* field, std::vector<std::string>* paths) {
  const Json* list = reader.Find(field, false);
  if (list == nullptr) return;
  if (!list->is_array()) return reader.Fail(field, "must be a list of absolute paths");
  size_t bytes = 0;
  for (size_t i = 0; i < list->size(); ++i) {
    const Json& item = (*list)[i];
    const std::string path = item.is_string() ? item.get<std::string>() : "";
    if (path.empty() || path[0] != '/' || path.find_first_of(std::string("\n\0", 2)) != path.npos) {
      reader.FailEntry(field, i, "has the entry ", Reader::Short(item),
                       ", which is not an absolute path");
      continue;
    }
    bytes += path.size() + 1;
    paths->push_back(path);
  }
  if (bytes > kControlTextBytesMax) {
    reader.Fail(field, "has ", bytes, " bytes; a host is told at most ", kControlTextBytesMax);
  }
}

void ReadContent(Reader& reader, const JsonPlaces& places, Manifest* manifest, Problems* problems) {
  const Json* content = reader.Find("content", false);
  if (content == nullptr) return;
  if (!content->is_object()) {
    return reader.Fail("content", "must be an object, like {\"required\": true}");
  }
  manifest->takes_content = true;
  Reader inner(*content, places, "content.", problems);
  inner.Flag("required", &manifest->content_required);
  inner.Text("default_path", &manifest->content_default, false);
  if (!manifest->content_default.empty() && !GoodPath(manifest->content_default)) {
    inner.Fail("default_path", "must be a relative path without \"..\"");
  }
  inner.Done();
}

// Takes the error of a text that is not JSON, with its place.
class SyntaxError final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    offset = position == 0 ? 0 : position - 1;
    const std::string text = error.what();
    const size_t said = text.find("syntax error");
    what = said == text.npos ? text : text.substr(said);
    return false;
  }
  size_t offset = 0;
  std::string what;
};

ManifestProblem NotJson(std::string_view text) {
  SyntaxError error;
  Json::sax_parse(text.begin(), text.end(), &error);
  ManifestProblem problem = {.place = PlaceIn(text, error.offset),
                             .field = "",
                             .text = absl::StrCat("is not JSON: ", error.what)};
  const std::string_view before = text.substr(0, std::min(error.offset, text.size()));
  const size_t last = before.find_last_not_of(" \t\r\n");
  if (last != before.npos && before[last] == ',' && error.offset < text.size() &&
      (text[error.offset] == '}' || text[error.offset] == ']')) {
    problem.text += ": remove the comma before it";
  } else if (error.offset < text.size() && text[error.offset] == '\'') {
    problem.text += ": JSON has texts in \"\"";
  } else if (before.size() >= 1 && (before.back() == '/' || text.substr(error.offset, 1) == "/" ||
                                    text.substr(error.offset, 1) == "#")) {
    problem.text += ": JSON has no comments";
  }
  return problem;
}

bool StandsBefore(const ManifestProblem& a, const ManifestProblem& b) {
  return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
}

}  // namespace

bool GoodDriverName(std::string_view name) {
  if (name.empty() || name.size() > 32 || name[0] < 'a' || name[0] > 'z') return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == name.npos;
}

std::string ManifestProblem::Sentence() const {
  return field.empty() ? text : absl::StrCat("\"", field, "\" ", text);
}

ManifestReading ReadManifest(std::string_view text) {
  ManifestReading reading;
  Problems& problems = reading.problems;
  if (text.size() > kManifestBytesMax) {
    problems.push_back({.text = absl::StrCat("is longer than ", kManifestBytesMax, " bytes")});
    return reading;
  }
  // Nesting is bounded by the text; a callback that refuses depth keeps hostile text off the stack.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth < 8; };
  const Json json = Json::parse(text.begin(), text.end(), shallow, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    problems.push_back(NotJson(text));
    return reading;
  }
  if (!json.is_object()) {
    problems.push_back({.text = absl::StrCat("must be a JSON object, not ", json.type_name())});
    return reading;
  }
  const JsonPlaces places(text);
  for (const std::string& path : places.duplicates()) {
    problems.push_back(
        {.place = places.Key(path), .field = path, .text = "stands twice: remove one"});
  }
  Manifest& manifest = reading.manifest;
  Reader reader(json, places, "", &problems);
  uint32_t schema = 0, abi = 0;
  reader.Number("schema", 1, 1, &schema, true);
  reader.Text("name", &manifest.name, true);
  if (!GoodDriverName(manifest.name)) {
    reader.Fail("name", "must match [a-z][a-z0-9-]{0,31}, and '", manifest.name, "' does not");
  }
  reader.Text("version", &manifest.version, true);
  reader.Text("summary", &manifest.summary, false);
  reader.Text("library", &manifest.library, true);
  if (!GoodPath(manifest.library)) {
    reader.Fail("library", "must be a relative path without \"..\"");
  }
  reader.Number("driver_abi", 1, std::numeric_limits<uint32_t>::max(), &abi, true);
  if (abi > kDriverAbi) {
    reader.Fail("driver_abi", "is ", abi, "; this Bulkhead has ", kDriverAbi,
                ": build the driver against its SDK");
  }
  ReadNames(reader, "callbacks", true, kCallbacks, &manifest.callbacks);
  ReadNames(reader, "notifications", false, kNotifications, &manifest.notifications);
  reader.Number("altitude", 0, 1'000'000, &manifest.altitude, false);
#define BH_READ_FLAG(id, NAME, name, on, doc) \
  reader.Flag(#name, BH_CHANNEL_##NAME, &manifest.channel_flags);
  BH_FOR_EACH_CHANNEL_FLAG(BH_READ_FLAG)
#undef BH_READ_FLAG
  reader.Number("workers", 1, BH_WORKERS_MAX, &manifest.workers, false);
  reader.Number("pending_calls_max", 0, BH_LANES_MAX * BH_SLOTS_PER_LANE_MAX,
                &manifest.pending_calls_max, false);
  reader.Number("checkpoint_bytes", 0, 1 << 20, &manifest.checkpoint_bytes, false);
  reader.Number("memory_mib_max", 64, 1 << 20, &manifest.memory_mib_max, false);
  reader.Number("start_within_s", 1, 3600, &manifest.start_within_s, false);
  reader.Text("options", &manifest.options, false);
  if (manifest.options.size() > kControlTextBytesMax) {
    reader.Fail("options", "has ", manifest.options.size(), " bytes; a host is told at most ",
                kControlTextBytesMax);
  }
  ReadPaths(reader, "reads", &manifest.reads);
  ReadPaths(reader, "writes", &manifest.writes);
  for (size_t i = 0; i < manifest.writes.size(); ++i) {
    if (manifest.writes[i].find_first_not_of('/') == std::string::npos) {
      reader.FailEntry("writes", i,
                       "has the entry '/': name the folders that the driver writes to");
    }
  }
  reader.Number("scratch_mib", 0, 1 << 16, &manifest.scratch_mib, false);
  reader.Number("cpu_percent_max", 0, 100 * 1024, &manifest.cpu_percent_max, false);
  ReadContent(reader, places, &manifest, &problems);
  reader.Done();
  std::stable_sort(problems.begin(), problems.end(), StandsBefore);
  return reading;
}

absl::StatusOr<Manifest> ParseManifest(std::string_view text) {
  ManifestReading reading = ReadManifest(text);
  if (reading.problems.empty()) return std::move(reading.manifest);
  return absl::InvalidArgumentError(
      absl::StrCat("manifest: ", reading.problems.front().Sentence()));
}

absl::StatusOr<std::string> ManifestTextOf(const std::string& folder) {
  const std::string path = folder + "/manifest.json";
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file; a driver's folder has one"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(kManifestBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (!file && !file.eof())) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": can't be read"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

absl::StatusOr<Manifest> LoadManifest(const std::string& folder) {
  const absl::StatusOr<std::string> text = ManifestTextOf(folder);
  if (!text.ok()) return text.status();
  ManifestReading reading = ReadManifest(*text);
  if (!reading.problems.empty()) {
    const ManifestProblem& first = reading.problems.front();
    std::string where = folder + "/manifest.json";
    if (first.place.line != 0) {
      absl::StrAppend(&where, ":", first.place.line, ":", first.place.column);
    }
    const size_t more = reading.problems.size() - 1;
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": ", first.Sentence(),
        more == 0 ? "" : absl::StrCat(" (and ", more, " more: bulkhead check ", folder, ")")));
  }
  std::error_code error;
  reading.manifest.folder = std::filesystem::absolute(folder, error).lexically_normal().string();
  return std::move(reading.manifest);
}

absl::StatusOr<Manifest> FindDriver(const std::string& name_or_folder,
                                    const std::vector<std::string>& search_folders) {
  if (name_or_folder.find('/') != std::string::npos) return LoadManifest(name_or_folder);
  std::error_code error;
  for (const std::string& folder : search_folders) {
    const std::string candidate = folder + "/" + name_or_folder;
    if (std::filesystem::exists(candidate + "/manifest.json", error))
      return LoadManifest(candidate);
  }
  return absl::NotFoundError(
      absl::StrCat("no driver '", name_or_folder, "' in ", absl::StrJoin(search_folders, ", "),
                   "; give its folder (./", name_or_folder, "), or set BULKHEAD_DRIVERS"));
}

std::vector<std::string> DriverSearchFolders() {
  std::vector<std::string> folders;
  if (const char* list = std::getenv("BULKHEAD_DRIVERS")) {
    folders = absl::StrSplit(list, ':', absl::SkipEmpty());
  }
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path above = program.parent_path().parent_path();
  folders.push_back((above / "drivers").string());
  folders.push_back((above / "lib/bulkhead/drivers").string());
  return folders;
}

}  // namespace bulkhead
