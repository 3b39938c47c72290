// SPDX-License-Identifier: Apache-2.0
//
// bulkhead eject: the operator's last word to the kernel module. Asks no supervisor.
#ifndef BULKHEAD_HOST_CLI_EJECT_H_
#define BULKHEAD_HOST_CLI_EJECT_H_

#include <functional>

#include "host/cli/program.h"

namespace CLI {
class App;
}

namespace bulkhead {

void AddEject(CLI::App& app, const Program& program, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_EJECT_H_
