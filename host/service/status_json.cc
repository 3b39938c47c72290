// SPDX-License-Identifier: Apache-2.0
#include "host/service/status_json.h"

#include <cstdint>
#include <nlohmann/json.hpp>

#include "absl/types/span.h"
#include "host/service/printable.h"
#include "ipc/abi/names.h"
#include "ipc/statistics.h"

namespace bulkhead {
namespace {

// {"calls": 5, ..., "by_policy": {"absent": 2, ...}, ...}: the rows of ipc/abi/statistics.def.
nlohmann::ordered_json CountersOf(const bh_statistics& statistics) {
  const absl::Span<const uint64_t> words = WordsOf(statistics);
  nlohmann::ordered_json counters;
  for (const StatisticRow& row : kStatistics) {
    if (row.part_name == nullptr) {
      counters[row.name] = words[row.first];
      continue;
    }
    for (uint32_t part = 0; part < row.count; ++part) {
      counters[row.name][row.part_name(part)] = words[row.first + part];
    }
  }
  return counters;
}

nlohmann::ordered_json SandboxOf(const DriverStatusFields& driver) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (uint32_t bit = 1; bit <= driver.sandbox_layers; bit <<= 1) {
    if ((driver.sandbox_layers & bit) != 0) layers.push_back(bh_sandbox_layer_name(bit));
  }
  return {{"level", bh_sandbox_level_name(bh_sandbox_level_of(driver.sandbox_layers))},
          {"layers", layers},
          {"lacks", driver.sandbox_lacks},
          {"entered_in_us", driver.sandbox_us}};
}

// What is 0 while there is none.
nlohmann::ordered_json NumberOrNull(uint64_t number) {
  return number == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(number);
}

nlohmann::ordered_json DriverOf(const DriverStatusFields& driver) {
  return {{"name", driver.name},
          {"version", driver.version},
          {"state", driver.state},
          {"generation", driver.generation},
          {"pid", NumberOrNull(driver.pid)},
          {"content", driver.content_version},
          {"last_known_good", driver.last_known_good},
          {"content_loading", NumberOrNull(driver.content_loading)},
          {"restarts", driver.restarts},
          {"start_failures", driver.start_failures},
          {"last_end", driver.last_end},
          {"mode", bh_mode_name(driver.mode)},
          {"protection", bh_protection_name(driver.protection.level)},
          {"reasons", driver.protection.reasons},
          {"sandbox", SandboxOf(driver)},
          {"shim_silent_ms", driver.shim_silent_ms},
          {"shim_error", driver.shim_error},
          {"counters_age_ms", driver.statistics_age_ms},
          {"counters", CountersOf(driver.statistics)}};
}

}  // namespace

nlohmann::ordered_json StatusJson(const StatusFields& status) {
  nlohmann::ordered_json guards = nlohmann::ordered_json::array();
  for (const GuardStatusFields& guard : status.guards) {
    guards.push_back({{"folder", guard.folder},
                      {"mode", bh_mode_name(guard.mode)},
                      {"protection", bh_protection_name(guard.protection.level)},
                      {"reasons", guard.protection.reasons},
                      {"losses", guard.losses}});
  }
  nlohmann::ordered_json counters = nlohmann::ordered_json::object();
  for (const CounterFields& counter : status.counters) {
    counters[Printable(counter.name)] = counter.value;
  }
  nlohmann::ordered_json drivers = nlohmann::ordered_json::array();
  for (const DriverStatusFields& driver : status.drivers) drivers.push_back(DriverOf(driver));
  return {{"pid", status.pid},
          {"attachment", status.attachment},
          {"config", status.config_path},
          {"shim", {{"pid", status.shim_pid}, {"incarnation", status.shim_incarnation}}},
          {"guards", guards},
          {"uptime_ms", status.uptime_ms},
          {"counters", counters},
          {"drivers", drivers}};
}

}  // namespace bulkhead
