// SPDX-License-Identifier: Apache-2.0
//
// bulkhead scan: asks drivers about every file of some folders, through the embedded shim. Exit
// code as scanners have it: 0 clean, 1 found, 2 trouble.
#ifndef BULKHEAD_HOST_CLI_SCAN_H_
#define BULKHEAD_HOST_CLI_SCAN_H_

#include <functional>

#include "host/cli/program.h"

namespace CLI {
class App;
}

namespace bulkhead {

// Adds the command; *run is set to it when it was chosen.
void AddScan(CLI::App& app, const Program& program, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_SCAN_H_
