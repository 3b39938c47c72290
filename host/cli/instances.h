// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_INSTANCES_H_
#define BULKHEAD_HOST_CLI_INSTANCES_H_

#include <string>
#include <utility>
#include <vector>

#include "ipc/control/operator_protocol.h"

namespace bulkhead {

struct Instances {
  std::vector<std::pair<std::string, StatusFields>> answered;  // with their sockets
  std::vector<std::pair<std::string, std::string>> silent;     // pid and error
};

// Every instance whose process listens; a socket on which no process listens means nothing. The
// silent ones, which have a time limit each, are named on standard error.
Instances FindInstances();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_INSTANCES_H_
