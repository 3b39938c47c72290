// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_TOP_H_
#define BULKHEAD_HOST_CLI_TOP_H_

#include <functional>

#include "host/cli/program.h"

namespace CLI {
class App;
}

namespace bulkhead {

// bulkhead top: what runs, live, on a terminal.
void AddTop(CLI::App& app, const Program& program, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_TOP_H_
