// SPDX-License-Identifier: Apache-2.0
//
// bulkhead check: says everything that is wrong with a driver's folder. Exit code 0 nothing, 1
// something, 2 it could not look.
#ifndef BULKHEAD_HOST_CLI_CHECK_H_
#define BULKHEAD_HOST_CLI_CHECK_H_

#include <functional>

#include "host/cli/program.h"

namespace CLI {
class App;
}

namespace bulkhead {

// Adds the command; *run is set to it when it was chosen.
void AddCheck(CLI::App& app, const Program& program, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_CHECK_H_
