// SPDX-License-Identifier: Apache-2.0
#include "host/service/service_config.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/service/metrics_server.h"
#include "ipc/abi/channel.h"

namespace bulkhead {
namespace {

std::vector<FieldMistake> DriverMistakes(const ServiceDriver& driver, const std::string& prefix) {
  std::vector<FieldMistake> mistakes;
  const auto wrong = [&](const char* field, const auto&... text) {
    mistakes.push_back(
        {field, absl::InvalidArgumentError(absl::StrCat(prefix, field, ": ", text...))});
  };
  if (driver.driver.empty()) wrong("driver", "'' is no driver; give a name or a folder");
  std::error_code error;
  if (!driver.content_folder.empty() &&
      !std::filesystem::is_directory(driver.content_folder, error)) {
    wrong("content", "no such folder '", driver.content_folder,
          "'; it takes the one with the drivers' content");
  }
  const uint32_t entries = driver.cache_entries;
  if ((entries & (entries - 1)) != 0 || entries > ServiceDriver::kCacheEntriesMax) {
    wrong("cache", entries, " is not 0 or a power of two up to ", ServiceDriver::kCacheEntriesMax);
  }
  if (driver.spin_us > ServiceDriver::kSpinUsMax) {
    wrong("spin", driver.spin_us, " us is more than ", ServiceDriver::kSpinUsMax);
  }
  if (bh_policy_check(&driver.policy) != 0) {
    wrong("policy", "of driver '", driver.driver, "': an action or a fallback is not known");
  }
  return mistakes;
}

}  // namespace

const char* OnStopName(OnStop on_stop) { return on_stop == OnStop::kKeep ? "keep" : "release"; }

const char* LogFormatName(LogFormat format) {
  switch (format) {
    case LogFormat::kAuto:
      return "auto";
    case LogFormat::kText:
      return "text";
    case LogFormat::kJson:
      return "json";
    case LogFormat::kJournal:
      return "journal";
  }
  return "unknown";
}

std::vector<Need> NeedsOf(const ServiceConfig& config, const std::string& prefix) {
  std::vector<Need> needs;
  for (const GuardSpec& guard : config.guards) {
    const std::vector<Need> more = NeedsOf(guard, prefix);
    needs.insert(needs.end(), more.begin(), more.end());
  }
  return needs;
}

std::vector<ConfigMistake> ConfigMistakes(const ServiceConfig& config, const std::string& prefix) {
  using Section = ConfigMistake::Section;
  std::vector<ConfigMistake> mistakes;
  const auto add = [&](Section section, size_t index, const std::string& field,
                       absl::Status status) {
    mistakes.push_back({section, index, field, std::move(status)});
  };
  if (config.drivers.empty()) {
    add(Section::kService, 0, "driver",
        absl::InvalidArgumentError(
            absl::StrCat(prefix, "driver: there is none; a service needs one at least")));
  }
  if (config.drivers.size() > BH_CHANNELS_MAX) {
    add(Section::kDriver, BH_CHANNELS_MAX, "driver",
        absl::InvalidArgumentError(absl::StrCat(prefix, "driver: ", config.drivers.size(),
                                                " drivers; a service has ", BH_CHANNELS_MAX,
                                                " at most")));
  }
  if (!config.metrics.empty()) {
    if (const absl::Status status = CheckMetricsAddress(config.metrics); !status.ok()) {
      add(Section::kService, 0, "metrics",
          absl::InvalidArgumentError(
              absl::StrCat(prefix, "metrics: ", std::string(status.message()))));
    }
  }
  if (config.page && config.metrics.empty()) {
    add(Section::kService, 0, "page",
        absl::InvalidArgumentError(absl::StrCat(
            prefix, "page: it has no address; it is served at the one of ", prefix, "metrics")));
  }
  std::set<std::string> drivers;
  for (size_t i = 0; i < config.drivers.size(); ++i) {
    const ServiceDriver& driver = config.drivers[i];
    for (const FieldMistake& mistake : DriverMistakes(driver, prefix)) {
      add(Section::kDriver, i, mistake.field, mistake.status);
    }
    if (!drivers.insert(driver.driver).second) {
      add(Section::kDriver, i, "driver",
          absl::AlreadyExistsError(
              absl::StrCat(prefix, "driver: '", driver.driver, "' is given twice")));
    }
  }
  std::set<std::string> folders;
  for (size_t i = 0; i < config.guards.size(); ++i) {
    const GuardSpec& guard = config.guards[i];
    for (const FieldMistake& mistake : GuardMistakes(guard, prefix)) {
      add(Section::kGuard, i, mistake.field, mistake.status);
    }
    if (!folders.insert(guard.folder).second) {
      add(Section::kGuard, i, "guard",
          absl::AlreadyExistsError(
              absl::StrCat(prefix, "guard: '", guard.folder, "' is given twice")));
    }
  }
  return mistakes;
}

absl::Status CheckConfig(const ServiceConfig& config, const std::string& prefix) {
  const std::vector<ConfigMistake> mistakes = ConfigMistakes(config, prefix);
  return mistakes.empty() ? absl::OkStatus() : mistakes.front().status;
}

}  // namespace bulkhead
