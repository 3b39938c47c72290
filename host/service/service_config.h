// SPDX-License-Identifier: Apache-2.0
//
// ServiceConfig: what a service is to do, as plain data: drivers, guards, attachment, limits. The
// command line and tests fill it; it holds nothing that has to be opened, started or closed.
// CheckConfig finds what is wrong with it before anything is started.
#ifndef BULKHEAD_HOST_SERVICE_SERVICE_CONFIG_H_
#define BULKHEAD_HOST_SERVICE_SERVICE_CONFIG_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "host/attachment/attachment.h"
#include "host/attachment/guard_spec.h"
#include "host/supervisor/lifecycle.h"
#include "host/supervisor/operator_rights.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/sandbox.h"
#include "ipc/shim_link.h"

namespace bulkhead {

struct ServiceDriver {
  static constexpr uint32_t kSpinUsMax = 10'000;
  static constexpr uint32_t kCacheEntriesMax = 1u << 20;

  std::string driver;          // a name, or a folder
  std::string content_folder;  // empty: the manifest's default
  std::string options;         // after those of the manifest
  bh_policy policy = DefaultPolicy();
  uint32_t cache_entries =
      0;                  // verdicts to remember, a power of two; 0: the driver is always asked
  uint32_t spin_us = 20;  // the longest that callers and workers spin before they sleep
};

enum class LogFormat {
  kAuto,     // the journal, when standard error goes there; else text
  kText,     // a line for a reader
  kJson,     // an object a line
  kJournal,  // to systemd's journal, with fields
};
inline constexpr LogFormat kLogFormats[] = {LogFormat::kAuto, LogFormat::kText, LogFormat::kJson,
                                            LogFormat::kJournal};
const char* LogFormatName(LogFormat format);

// What becomes of hosts and guards when the service is stopped in order.
enum class OnStop {
  kRelease,  // they end
  kKeep,     // they stay, for the next service with this configuration
};
inline constexpr OnStop kOnStops[] = {OnStop::kRelease, OnStop::kKeep};
const char* OnStopName(OnStop on_stop);

struct ServiceConfig {
  std::vector<ServiceDriver> drivers;  // one at least; each only once
  std::string attachment = "auto";     // a row's name, or auto
  std::vector<GuardSpec> guards;       // may be empty where the application makes the calls
  std::set<std::string> accepted;      // names of the attachment's limits (attachment.h)
  LifecycleLimits limits;
  LogFormat log = LogFormat::kAuto;
  OnStop on_stop = OnStop::kRelease;
  std::string metrics;  // as CheckMetricsAddress() takes it; empty: none
  bool page = false;    // is at that address, too
  OperatorGroups operators;
  bh_sandbox_level sandbox_required = BH_SANDBOX_BASIC;  // hosts below it do not start
};

// What the guards ask of the attachment.
std::vector<Need> NeedsOf(const ServiceConfig& config, const std::string& prefix = "");

// A mistake, and the list that has the field: what is said of a driver or a guard belongs to one.
struct ConfigMistake {
  enum class Section { kService, kDriver, kGuard };
  Section section = Section::kService;
  size_t index = 0;  // in the section's list
  std::string field;
  absl::Status status;
};

// All mistakes: each message names the field, after `prefix`, and the value, and says what is
// expected.
std::vector<ConfigMistake> ConfigMistakes(const ServiceConfig& config,
                                          const std::string& prefix = "");
// The first of them.
absl::Status CheckConfig(const ServiceConfig& config, const std::string& prefix = "");

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_SERVICE_CONFIG_H_
