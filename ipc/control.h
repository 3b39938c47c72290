// SPDX-License-Identifier: Apache-2.0
//
// Building and verifying control messages: the one place that knows how an Envelope is put
// together. What each message means, and which descriptors go with it, stands in
// ipc/schema/control.fbs.
#ifndef BULKHEAD_IPC_CONTROL_H_
#define BULKHEAD_IPC_CONTROL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/abi/channel.h"
#include "ipc/schema/control_generated.h"
#include "ipc/shim_link.h"

namespace bulkhead {

inline constexpr uint32_t kControlVersion = 1;
inline constexpr size_t kControlBytesMax = 64 * 1024;

// A finished message, ready for ControlSocket::Send.
using ControlBuffer = flatbuffers::DetachedBuffer;

// Checks bytes from a peer: size, identifier, structure, version, and that the message is one that
// we know. Only then may wire::GetEnvelope() be used on them. InvalidArgument says what is wrong.
absl::Status VerifyEnvelope(absl::Span<const uint8_t> bytes);

// Text is cut to a limit, so that a message always fits a datagram.
inline constexpr size_t kControlTextBytesMax = 4096;

// ---- supervisor and host

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
};

ControlBuffer MakeHello(uint32_t abi_version, uint32_t driver_abi, uint32_t pid);
ControlBuffer MakeAttach(const AttachFields& fields);
// The fields of a received Attach as our own types; geometry is checked. InvalidArgument.
absl::StatusOr<AttachFields> ReadAttach(const wire::Attach& attach);
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
ControlBuffer MakeStartFailed(uint32_t generation, std::string_view reason);
ControlBuffer MakePing(uint64_t number);
ControlBuffer MakePong(uint64_t number, uint64_t calls, uint64_t log_dropped);
ControlBuffer MakeDrain(uint32_t generation);
ControlBuffer MakeLogLine(wire::LogLevel level, std::string_view text);

// ---- supervisor and a shim in a process of its own

ControlBuffer MakeShimHello(uint32_t pid, uint32_t incarnation, uint32_t adopted);
ControlBuffer MakeBeginGeneration(uint64_t request, ChannelId channel,
                                  const bh_generation_spec& spec);
// InvalidArgument for a set of another length.
absl::StatusOr<bh_generation_spec> ReadBeginGeneration(const wire::BeginGeneration& message);
ControlBuffer MakeEndGeneration(uint64_t request, ChannelId channel, uint32_t generation,
                                bh_end cause);
ControlBuffer MakeSetState(uint64_t request, ChannelId channel, bool quarantined, bool draining);
ControlBuffer MakeSetPolicy(uint64_t request, ChannelId channel, const bh_policy& policy);
// InvalidArgument for a wrong number of rules or a value that is no Action.
absl::StatusOr<bh_policy> ReadPolicy(const wire::SetPolicy& message);
ControlBuffer MakeGetStatistics(uint64_t request, ChannelId channel);
// `error` empty: done. `statistics` null: not asked for.
ControlBuffer MakeResult(uint64_t request, std::string_view error, const bh_statistics* statistics);
// A counter that the sender does not have is 0.
bh_statistics ReadStatistics(const flatbuffers::Vector<uint64_t>& words);
ControlBuffer MakeShimEvent(ChannelId channel, uint32_t event, uint32_t detail, uint32_t generation,
                            uint64_t call_id);

// ---- operator and supervisor

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

#endif  // BULKHEAD_IPC_CONTROL_H_
