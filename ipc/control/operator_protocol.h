// SPDX-License-Identifier: Apache-2.0
//
// What an operator's program and a supervisor say to each other.
#ifndef BULKHEAD_IPC_CONTROL_OPERATOR_PROTOCOL_H_
#define BULKHEAD_IPC_CONTROL_OPERATOR_PROTOCOL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/abi/statistics.h"
#include "ipc/control/envelope.h"

namespace bulkhead {

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
};

struct StatusFields {
  uint32_t pid = 0;
  std::string attachment;
  std::vector<std::string> guarded;  // cut to 16
  uint64_t uptime_ms = 0;
  uint32_t shim_pid = 0;
  uint32_t shim_incarnation = 0;
  std::vector<DriverStatusFields> drivers;
  uint64_t filtered = 0;  // accesses that filters kept from all drivers
};

ControlBuffer MakeGetStatus();
ControlBuffer MakeStatus(const StatusFields& fields);
StatusFields ReadStatus(const wire::Status& status);
ControlBuffer MakeSetContent(std::string_view driver, std::string_view path);
ControlBuffer MakeRelease(std::string_view driver);
ControlBuffer MakeShutdown();
// `error` empty: done.
ControlBuffer MakeDone(std::string_view error, uint64_t content_version);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CONTROL_OPERATOR_PROTOCOL_H_
