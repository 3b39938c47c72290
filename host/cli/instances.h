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
  std::vector<std::pair<std::string, std::string>> refused;    // likewise: not for this user
};

// Every instance whose process listens; a socket on which no process listens means nothing. Each
// has a time limit. The silent ones are named on standard error; so are those that refuse, where
// none answers.
Instances FindInstances();
// They are not.
Instances LookForInstances();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_INSTANCES_H_
