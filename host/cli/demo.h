// SPDX-License-Identifier: Apache-2.0
//
// bulkhead demo: the whole story on real files, each step with what was measured. Exit code 0 only
// if all of it held.
#ifndef BULKHEAD_HOST_CLI_DEMO_H_
#define BULKHEAD_HOST_CLI_DEMO_H_

#include <functional>

#include "CLI/CLI.hpp"
#include "host/cli/program.h"

namespace bulkhead {

void AddDemo(CLI::App& app, const Program& program, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_DEMO_H_
