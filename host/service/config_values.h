// SPDX-License-Identifier: Apache-2.0
//
// The words of a configuration that are the same on the command line and in a file: times, policy
// rules, the names of events. Errors are InvalidArgument; their messages have the word and what is
// expected, and no field.
#ifndef BULKHEAD_HOST_SERVICE_CONFIG_VALUES_H_
#define BULKHEAD_HOST_SERVICE_CONFIG_VALUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ipc/abi/callbacks.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/sandbox.h"

namespace bulkhead {

// "500ms", "5s", "2m", up to an hour; a number without a unit is in seconds. In nanoseconds, above
// 0.
absl::StatusOr<uint64_t> ParseDuration(const std::string& text);
// ParseDuration's text of a time.
std::string DurationText(uint64_t ns);

// "hold", "deny", "cached,deny": the action, and the one for when that gives no verdict.
absl::StatusOr<bh_rule> ParseRule(const std::string& text);
// What ParseRule makes the same rule of.
std::string RuleText(const bh_rule& rule);
// "allow, deny, hold, cached"
std::string ActionList();

// "basic": how much of a sandbox a host has to have (ipc/abi/sandbox.h).
absl::StatusOr<bh_sandbox_level> ParseSandboxLevel(const std::string& text);
std::string SandboxLevelList();

// A callback about files as guards name it: "open" is file_open.
struct EventName {
  std::string name;
  uint32_t callback;
};
const std::vector<EventName>& EventNames();
// "open,exec"
std::string EventList(const bh_callback_set& callbacks, const char* separator = ",");

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_CONFIG_VALUES_H_
