// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_CHECK_CONFIG_H_
#define BULKHEAD_HOST_CLI_CHECK_CONFIG_H_

#include <functional>

#include "host/cli/program.h"

namespace CLI {
class App;
}

namespace bulkhead {

// bulkhead check-config: all that is wrong with a configuration file.
void AddCheckConfig(CLI::App& app, const Program& program, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_CHECK_CONFIG_H_
