// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/host_record.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "ipc/abi/channel.h"

namespace bulkhead {
namespace {

using Json = nlohmann::json;

// Raised whenever a field changes its meaning.
constexpr int kVersion = 2;

Json ToJson(const ReleaseRecord& release) {
  return {{"id", release.id},
          {"folder", release.content_folder},
          {"source", release.content_source},
          {"options", release.options}};
}

ReleaseRecord ReleaseOf(const Json& json) {
  return {.id = json.at("id"),
          .content_folder = json.at("folder"),
          .content_source = json.at("source"),
          .options = json.at("options")};
}

}  // namespace

std::string WriteHostRecord(const HostRecord& record) {
  const absl::string_view wanted(reinterpret_cast<const char*>(&record.wanted),
                                 sizeof(record.wanted));
  Json json = {{"version", kVersion},
               {"abi", BH_ABI_VERSION},
               {"package", record.package},
               {"channel", record.channel},
               {"newest_generation", record.newest_generation},
               {"user", record.user},
               {"user_lacks", record.user_lacks},
               {"newest_release", record.newest_release},
               {"good", ToJson(record.good)},
               {"restarts", record.restarts},
               {"start_failures", record.start_failures},
               {"generation", record.generation},
               {"pid", record.pid},
               {"group", record.group},
               {"group_lacks", record.group_lacks},
               {"processes_lack", record.processes_lack},
               {"running", ToJson(record.running)},
               {"wanted", absl::BytesToHexString(wanted)},
               {"driver_version", record.driver_version},
               {"sandbox_layers", record.sandbox.layers},
               {"sandbox_lacks", record.sandbox.lacks},
               {"sandbox_us", record.sandbox.spent_us},
               {"has_checkpoint", record.has_checkpoint}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<HostRecord> ReadHostRecord(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("version") != kVersion || json.at("abi") != BH_ABI_VERSION) {
      return absl::InvalidArgumentError("another release of Bulkhead has written it");
    }
    HostRecord record;
    const std::string wanted = absl::HexStringToBytes(std::string(json.at("wanted")));
    if (wanted.size() != sizeof(record.wanted)) {
      return absl::InvalidArgumentError("another release of Bulkhead has written it");
    }
    std::memcpy(&record.wanted, wanted.data(), wanted.size());
    record.package = json.at("package");
    record.channel = json.at("channel");
    record.newest_generation = json.at("newest_generation");
    record.user = json.at("user");
    record.user_lacks = json.at("user_lacks");
    record.newest_release = json.at("newest_release");
    record.good = ReleaseOf(json.at("good"));
    record.restarts = json.at("restarts");
    record.start_failures = json.at("start_failures");
    record.generation = json.at("generation");
    record.pid = json.at("pid");
    record.group = json.at("group");
    record.group_lacks = json.at("group_lacks");
    record.processes_lack = json.at("processes_lack");
    record.running = ReleaseOf(json.at("running"));
    record.driver_version = json.at("driver_version");
    record.sandbox.generation = record.generation;
    record.sandbox.layers = json.at("sandbox_layers");
    record.sandbox.lacks = json.at("sandbox_lacks").get<std::vector<std::string>>();
    record.sandbox.spent_us = json.at("sandbox_us");
    record.has_checkpoint = json.at("has_checkpoint");
    return record;
  } catch (const Json::exception& wrong) {
    return absl::InvalidArgumentError(absl::StrCat("it can't be read: ", wrong.what()));
  }
}

}  // namespace bulkhead
