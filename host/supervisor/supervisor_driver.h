// SPDX-License-Identifier: Apache-2.0
//
// Supervisor::Driver: what a supervisor knows about one driver, its present host and those before.
// For the supervisor's own files; its mutex_ guards all of it but what says otherwise.
#ifndef BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_DRIVER_H_
#define BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_DRIVER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "host/supervisor/content_store.h"
#include "host/supervisor/death_watch.h"
#include "host/supervisor/lifecycle.h"
#include "host/supervisor/rest_watch.h"
#include "host/supervisor/spawner.h"
#include "host/supervisor/supervisor.h"
#include "ipc/control_socket.h"
#include "ipc/life_line_unsafe.h"
#include "ipc/shared_memory.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// What a host is told: the manifest's options, then the operator's.
inline std::string OptionsOf(const DriverConfig& config) {
  std::string options = config.manifest.options;
  if (!config.options.empty()) options += (options.empty() ? "" : " ") + config.options;
  return options;
}

struct Supervisor::Driver {
  Driver(const DriverConfig& config_in, const std::string& folder)
      : config(config_in), content(folder) {}

  // Says it to the host, or not at all: the thread waits for no host, or one that does not read
  // would keep it from all others.
  absl::Status Tell(const ControlBuffer& message, absl::Span<const int> with = {}) {
    return control.Send(message, with, /*until_ns=*/0);
  }

  // Drivers get a copy of their content, and name that when it is wrong. The operator knows only
  // the folder that it was copied from, and the copy may be gone when the message is read.
  std::string NameOriginals(std::string text) const;

  const DriverConfig config;
  ContentStore content;
  std::map<uint64_t, std::string> content_folders;  // by version, what the operator named
  std::mutex content_mutex;  // held, without mutex_ or before it, by who puts content in force
  ChannelId channel = 0;
  SharedMemory checkpoint;
  std::unique_ptr<Lifecycle> lifecycle;
  uint64_t timer_ns = 0;

  // the present host
  std::optional<ChildProcess> child;
  ControlSocket control;
  UniqueFd shim_files;                      // until BeginGeneration takes it
  std::optional<LifeLine> life_line;        // until it has started
  std::unique_ptr<DeathWatch> death_watch;  // from then on
  uint64_t callbacks = 0;
  uint64_t descriptors = 0;
  uint64_t notifications = 0;
  std::string version;
  std::string start_failure;
  std::string error_tail;
  uint64_t ping_ns = 0;   // when the last one was sent, or was found to be of no use
  uint64_t heard_ns = 0;  // when the host last said anything, or was known to be well
  RestWatch rest;

  // the past
  uint64_t death_seen_ns = 0;  // of a generation that served, until the next does
  std::vector<RecoverySample> recoveries;
  std::string last_end;
  pid_t last_pid = -1;
  std::string quarantine_reason;
  uint64_t in_force = 0;
  uint64_t rolled_back = 0;
  std::string rolled_back_reason;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_SUPERVISOR_DRIVER_H_
