// SPDX-License-Identifier: Apache-2.0
//
// What a supervisor and a driver host say to each other.
#ifndef BULKHEAD_IPC_CONTROL_HOST_PROTOCOL_H_
#define BULKHEAD_IPC_CONTROL_HOST_PROTOCOL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ipc/abi/channel.h"
#include "ipc/abi/events.h"
#include "ipc/abi/sandbox.h"
#include "ipc/abi/sets.h"
#include "ipc/control/envelope.h"

namespace bulkhead {

struct AttachFields {
  uint32_t generation = 0;
  bh_start reason = BH_START_COLD;
  bh_geometry geometry = {};
  uint32_t workers = 1;
  std::string driver_name;
  std::string driver_path;
  std::string content_path;  // empty: the driver has no content
  uint64_t content_version = 0;
  std::string options;
  bh_callback_set callbacks = {};
  uint64_t checkpoint_bytes = 0;
  uint32_t spin_ns = 0;
  uint32_t sandbox = 0;
  bh_callback_set notifications = {};
  uint32_t pending_calls_max = 0;
  std::string reads;       // files and folders that the driver may open, a line each
  bool standby = false;    // start the driver, and serve when told to
  uint32_t user = 0;       // and group, that it becomes; 0: it stays what it is
  std::string user_lacks;  // then why
  std::string writes;      // files and folders that the driver may write, a line each
  uint32_t scratch_mib = 0;
  bh_sandbox_level sandbox_required = BH_SANDBOX_NONE;
  std::string group;  // the last name of its control group; empty: none
  std::string group_lacks;
  std::string processes_lack;
};

ControlBuffer MakeHello(uint32_t abi_version, uint32_t driver_abi);
ControlBuffer MakeAttach(const AttachFields& fields);
// The fields of a received Attach as our own types; geometry is checked. InvalidArgument.
absl::StatusOr<AttachFields> ReadAttach(const wire::Attach& attach);
// What a host's sandbox is. From a host that has not loaded its driver yet.
struct SandboxFields {
  uint32_t generation = 0;
  uint32_t layers = 0;             // known ones
  std::vector<std::string> lacks;  // cut to 16
  uint32_t spent_us = 0;
};
ControlBuffer MakeSandboxed(const SandboxFields& fields);
SandboxFields ReadSandboxed(const wire::Sandboxed& sandboxed);
// A host's Started: what its driver registered for.
struct StartedFields {
  uint32_t generation = 0;
  bh_callback_set callbacks = {};
  bh_callback_set descriptors = {};
  bh_callback_set notifications = {};
  std::string driver_version;
};
ControlBuffer MakeStarted(const StartedFields& fields);
// InvalidArgument for a set of another length.
absl::StatusOr<StartedFields> ReadStarted(const wire::Started& started);
ControlBuffer MakeReady(uint32_t generation);
ControlBuffer MakeServe(uint32_t generation);
ControlBuffer MakeStartFailed(uint32_t generation, std::string_view reason);
ControlBuffer MakePing(uint64_t number);
ControlBuffer MakePong(uint64_t number, uint64_t calls, uint64_t log_dropped);
ControlBuffer MakeDrain(uint32_t generation);
ControlBuffer MakeLogLine(wire::LogLevel level, std::string_view text, uint64_t number = 0,
                          uint64_t time_ns = 0, uint64_t dropped = 0);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CONTROL_HOST_PROTOCOL_H_
