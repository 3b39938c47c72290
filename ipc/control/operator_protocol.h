// SPDX-License-Identifier: Apache-2.0
//
// What an operator's program and a supervisor say to each other.
#ifndef BULKHEAD_IPC_CONTROL_OPERATOR_PROTOCOL_H_
#define BULKHEAD_IPC_CONTROL_OPERATOR_PROTOCOL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/abi/policy.h"
#include "ipc/abi/protection.h"
#include "ipc/abi/sandbox.h"
#include "ipc/abi/statistics.h"
#include "ipc/control/envelope.h"

namespace bulkhead {

// Of a guard or of a driver.
struct ProtectionFields {
  bh_protection level = BH_PROTECTION_NONE;
  std::vector<std::string> reasons;  // cut to 3
};

struct GuardStatusFields {
  std::string folder;
  ProtectionFields protection;
  uint64_t losses = 0;
  bh_mode mode = BH_MODE_ENFORCE;
};

struct DriverStatusFields {
  std::string name;
  std::string version;
  std::string state;
  uint32_t generation = 0;
  uint32_t pid = 0;
  uint32_t altitude = 0;
  uint64_t content_version = 0;
  std::string content_path;
  uint64_t last_known_good = 0;
  uint64_t restarts = 0;
  uint64_t start_failures = 0;
  std::string last_end;
  uint64_t next_start_ms = 0;
  bh_statistics statistics = {};
  uint64_t statistics_age_ms = 0;
  uint64_t shim_silent_ms = 0;
  std::string shim_error;
  ProtectionFields protection;
  uint64_t content_loading = 0;            // its host starts beside the one that serves
  uint32_t sandbox_layers = 0;             // of its newest host: bits of ipc/abi/sandbox.h
  std::vector<std::string> sandbox_lacks;  // of the other layers: "layer: why"; cut to 16
  uint32_t sandbox_us = 0;                 // that entering them took
  bh_mode mode = BH_MODE_ENFORCE;
};

struct CounterFields {
  std::string name;
  uint64_t value = 0;
};

struct StatusFields {
  uint32_t pid = 0;
  std::string attachment;
  std::vector<GuardStatusFields> guards;  // cut to 16
  uint64_t uptime_ms = 0;
  uint32_t shim_pid = 0;
  uint32_t shim_incarnation = 0;
  std::vector<DriverStatusFields> drivers;
  std::vector<CounterFields> counters;  // of the attachment; cut to 32
  std::string config_path;              // empty: it has no configuration file
};

// One thing that happened; see DriverEvent, whose fields these are.
struct EventFields {
  uint64_t sequence = 0;
  uint64_t at_us = 0;  // CLOCK_REALTIME
  std::string kind;
  wire::LogLevel level = wire::LogLevel::Info;
  std::string driver;
  uint32_t generation = 0;
  uint32_t pid = 0;
  uint8_t end = 0;
  uint64_t content = 0;
  uint64_t good_content = 0;
  uint64_t call_id = 0;
  uint32_t number = 0;
  uint32_t owner = 0;
  uint32_t adopted_calls = 0;
  std::string text;  // cut, as all texts are
  std::string line;
  // Of a denial, as in bh_denial; `denied_by` is 0 in all others.
  uint32_t callback = 0;
  uint8_t denied_by = 0;
  uint8_t reason = 0;
  uint8_t audited = 0;
  uint32_t error = 0;
  uint64_t device = 0;
  uint64_t inode = 0;
  uint32_t caller_pid = 0;
  uint32_t caller_uid = 0;
  std::string rule, path, comm, exe;
};

struct EventsFields {
  std::vector<EventFields> events;
  uint64_t newest = 0;
  uint64_t lost = 0;
};

ControlBuffer MakeGetStatus();
ControlBuffer MakeStatus(const StatusFields& fields);
StatusFields ReadStatus(const wire::Status& status);
ControlBuffer MakeSetContent(std::string_view driver, std::string_view path);
ControlBuffer MakeRelease(std::string_view driver);
enum class HostsAtStop : uint8_t { kAsConfigured, kEnd, kStay };
ControlBuffer MakeShutdown(HostsAtStop hosts = HostsAtStop::kAsConfigured);
// One that is not known counts as kEnd.
HostsAtStop ReadShutdown(const wire::Shutdown& shutdown);
ControlBuffer MakeReload();
ControlBuffer MakeSignIn();
ControlBuffer MakeSignInLink(std::string_view link);
ControlBuffer MakeGetEvents(uint64_t after);
// Events are cut to as many as fit, the oldest first.
ControlBuffer MakeEvents(const EventsFields& fields);
EventsFields ReadEvents(const wire::Events& events);
// `error` empty: done.
ControlBuffer MakeDone(std::string_view error, uint64_t content_version);
// The process that asks has not the right to.
ControlBuffer MakeRefused(std::string_view error);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CONTROL_OPERATOR_PROTOCOL_H_
