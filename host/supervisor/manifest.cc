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

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "ipc/abi/callbacks.h"
#include "ipc/abi/notification.h"
#include "ipc/control/envelope.h"

namespace bulkhead {
namespace {

using Json = nlohmann::json;

constexpr size_t kManifestBytesMax = 64 * 1024;
constexpr uint32_t kDriverAbi = 1;

template <typename... Words>
absl::Status Wrong(const Words&... words) {
  return absl::InvalidArgumentError(absl::StrCat("manifest: ", words...));
}

// Reads the fields of one JSON object, and remembers the first thing that is wrong: what follows
// from it may be said too.
class Reader {
 public:
  explicit Reader(const Json& object) : object_(object) {}

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
      return Fail(field, "must be a whole number from ", low, " to ", high);
    }
    *value = found->get<uint32_t>();
  }
  void Flag(const char* field, bool* value) {
    const Json* found = Find(field, false);
    if (found == nullptr) return;
    if (!found->is_boolean()) return Fail(field, "must be true or false");
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
  void Fail(const char* field, const Words&... words) {
    if (status_.ok()) status_ = Wrong("\"", field, "\" ", words...);
  }
  // Also refuses unknown fields: a misspelt one must not be passed over.
  absl::Status Done() {
    for (const auto& item : object_.items()) {
      if (std::find(known_.begin(), known_.end(), item.key()) == known_.end()) {
        Fail(item.key().c_str(), "is no field of a manifest; it has ", absl::StrJoin(known_, ", "));
      }
    }
    return status_;
  }

 private:
  const Json& object_;
  std::vector<std::string> known_;
  absl::Status status_;
};

bool GoodName(std::string_view name) {
  if (name.empty() || name.size() > 32 || name[0] < 'a' || name[0] > 'z') return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == name.npos;
}

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
    return reader.Fail(field, "must be a list of names");
  }
  for (const Json& item : *list) {
    const auto* found = std::find_if(std::begin(known), std::end(known), [&](const Name& name) {
      return item.is_string() && item.get_ref<const std::string&>() == name.name;
    });
    if (found == std::end(known)) {
      return reader.Fail(field, "has an entry that is not one of ",
                         absl::StrJoin(known, ", ", [](std::string* out, const Name& name) {
                           out->append(name.name);
                         }));
    }
    bh_set_add(set, found->id);
  }
}

void ReadPaths(Reader& reader, const char* field, std::vector<std::string>* paths) {
  const Json* list = reader.Find(field, false);
  if (list == nullptr) return;
  if (!list->is_array()) return reader.Fail(field, "must be a list of absolute paths");
  size_t bytes = 0;
  for (const Json& item : *list) {
    const std::string path = item.is_string() ? item.get<std::string>() : "";
    if (path.empty() || path[0] != '/' || path.find_first_of(std::string("\n\0", 2)) != path.npos) {
      return reader.Fail(field, "has an entry that is not an absolute path");
    }
    bytes += path.size() + 1;
    paths->push_back(path);
  }
  if (bytes > kControlTextBytesMax) {
    reader.Fail(field, "has ", bytes, " bytes; a host is told at most ", kControlTextBytesMax);
  }
}

absl::Status ReadContent(Reader& reader, Manifest* manifest) {
  const Json* content = reader.Find("content", false);
  if (content == nullptr) return absl::OkStatus();
  if (!content->is_object()) return Wrong("\"content\" must be an object");
  manifest->takes_content = true;
  Reader inner(*content);
  inner.Flag("required", &manifest->content_required);
  inner.Text("default_path", &manifest->content_default, false);
  if (!manifest->content_default.empty() && !GoodPath(manifest->content_default)) {
    inner.Fail("default_path", "must be a relative path without \"..\"");
  }
  return inner.Done();
}

}  // namespace

absl::StatusOr<Manifest> ParseManifest(std::string_view text) {
  if (text.size() > kManifestBytesMax) {
    return Wrong("is longer than ", kManifestBytesMax, " bytes");
  }
  // Nesting is bounded by the text; a callback that refuses depth keeps hostile text off the stack.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth < 8; };
  const Json json = Json::parse(text.begin(), text.end(), shallow, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Wrong("is not JSON");
  if (!json.is_object()) return Wrong("must be a JSON object, not ", json.type_name());
  Manifest manifest;
  Reader reader(json);
  uint32_t schema = 0, abi = 0;
  reader.Number("schema", 1, 1, &schema, true);
  reader.Text("name", &manifest.name, true);
  if (!GoodName(manifest.name)) {
    reader.Fail("name", "must match [a-z][a-z0-9-]{0,31}");
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
  for (const std::string& path : manifest.writes) {
    if (path.find_first_not_of('/') == path.npos) {
      reader.Fail("writes", "has the entry '/': name the folders that the driver writes to");
    }
  }
  reader.Number("scratch_mib", 0, 1 << 16, &manifest.scratch_mib, false);
  reader.Number("cpu_percent_max", 0, 100 * 1024, &manifest.cpu_percent_max, false);
  if (absl::Status status = ReadContent(reader, &manifest); !status.ok()) return status;
  if (absl::Status status = reader.Done(); !status.ok()) return status;
  return manifest;
}

absl::StatusOr<Manifest> LoadManifest(const std::string& folder) {
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
  absl::StatusOr<Manifest> manifest = ParseManifest(text);
  if (!manifest.ok()) {
    return absl::Status(manifest.status().code(),
                        absl::StrCat(path, ": ", manifest.status().message()));
  }
  manifest->folder = std::filesystem::absolute(folder, error).lexically_normal().string();
  return manifest;
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
