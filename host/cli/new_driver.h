// SPDX-License-Identifier: Apache-2.0
//
// bulkhead new: makes a driver's project, which builds against the installed SDK.
#ifndef BULKHEAD_HOST_CLI_NEW_DRIVER_H_
#define BULKHEAD_HOST_CLI_NEW_DRIVER_H_

#include <functional>

#include "host/cli/program.h"

namespace CLI {
class App;
}

namespace bulkhead {

// Adds the command; *run is set to it when it was chosen.
void AddNewDriver(CLI::App& app, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_NEW_DRIVER_H_
