// SPDX-License-Identifier: Apache-2.0
//
// RunDaemon: a service from its start to its end: claims its folders, makes the attachment, starts
// the drivers, sets the guards, answers operators, reads its configuration again when asked to, and
// puts everything away. bulkheadd runs it with a configuration file, `bulkhead run` in the
// foreground with the words of its command line.
#ifndef BULKHEAD_HOST_SERVICE_DAEMON_H_
#define BULKHEAD_HOST_SERVICE_DAEMON_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/service/program.h"
#include "host/service/service_config.h"
#include "host/service/service_log.h"
#include "ipc/control/operator_protocol.h"

namespace bulkhead {

struct DaemonOptions {
  ServiceConfig config;
  std::string config_path;   // absolute: read again by a reload; empty: there is no file
  std::string field_prefix;  // before the names of fields in errors: "--" of a command line
  // Hosts and guards are left to the next service with this configuration file when this one dies,
  // or is stopped with the wish that they stay; what the one before has left is gone on with.
  bool outlives = false;
  int ready_fd = -1;  // a line is written to it once all guards are set; -1: none
};

// Returns when the service has ended as it was asked to, with the attachment's last counts.
// Complaints are the caller's: when all is put away. Nothing here waits for a reader of the log.
absl::StatusOr<std::vector<CounterFields>> RunDaemon(const Program& program,
                                                     const DaemonOptions& options, ServiceLog& log);

// Ends the hosts and the shim that a service with this configuration file has left. AlreadyExists:
// one runs. Of the kernel module, the guards stay in force until it is ejected.
absl::Status ReleaseLeft(const Program& program, const std::string& config_path);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_DAEMON_H_
