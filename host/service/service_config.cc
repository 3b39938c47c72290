// SPDX-License-Identifier: Apache-2.0
#include "host/service/service_config.h"

#include <filesystem>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "ipc/abi/channel.h"

namespace bulkhead {
namespace {

absl::Status CheckDriver(const ServiceDriver& driver, const std::string& prefix) {
  if (driver.driver.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix, "driver: '' is no driver; give a name or a folder"));
  }
  std::error_code error;
  if (!driver.content_folder.empty() &&
      !std::filesystem::is_directory(driver.content_folder, error)) {
    return absl::NotFoundError(absl::StrCat(prefix, "rules: no such folder '",
                                            driver.content_folder,
                                            "'; it takes the one with the drivers' content"));
  }
  const uint32_t entries = driver.cache_entries;
  if ((entries & (entries - 1)) != 0 || entries > ServiceDriver::kCacheEntriesMax) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, "cache: ", entries,
                                                   " is not 0 or a power of two up to ",
                                                   ServiceDriver::kCacheEntriesMax));
  }
  if (driver.spin_us > ServiceDriver::kSpinUsMax) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, "spin: ", driver.spin_us,
                                                   " us is more than ", ServiceDriver::kSpinUsMax));
  }
  if (bh_policy_check(&driver.policy) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, "policy of driver '", driver.driver,
                                                   "': an action or a fallback is not known"));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Need> NeedsOf(const ServiceConfig& config, const std::string& prefix) {
  std::vector<Need> needs;
  for (const GuardSpec& guard : config.guards) {
    const std::vector<Need> more = NeedsOf(guard, prefix);
    needs.insert(needs.end(), more.begin(), more.end());
  }
  return needs;
}

absl::Status CheckConfig(const ServiceConfig& config, const std::string& prefix) {
  if (config.drivers.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix, "driver: there is none; a service needs one at least"));
  }
  if (config.drivers.size() > BH_CHANNELS_MAX) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, "driver: ", config.drivers.size(),
                                                   " drivers; a service has ", BH_CHANNELS_MAX,
                                                   " at most"));
  }
  std::set<std::string> drivers;
  for (const ServiceDriver& driver : config.drivers) {
    if (absl::Status status = CheckDriver(driver, prefix); !status.ok()) return status;
    if (!drivers.insert(driver.driver).second) {
      return absl::AlreadyExistsError(
          absl::StrCat(prefix, "driver: '", driver.driver, "' is given twice"));
    }
  }
  std::set<std::string> folders;
  for (const GuardSpec& guard : config.guards) {
    if (absl::Status status = CheckGuard(guard, prefix); !status.ok()) return status;
    if (!folders.insert(guard.folder).second) {
      return absl::AlreadyExistsError(
          absl::StrCat(prefix, "guard: '", guard.folder, "' is given twice"));
    }
  }
  return absl::OkStatus();
}

}  // namespace bulkhead
