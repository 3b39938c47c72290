// SPDX-License-Identifier: Apache-2.0
//
// bulkhead doctor: what works on this machine, tried for real; why not, and what would make it
// work.
#ifndef BULKHEAD_HOST_CLI_DOCTOR_H_
#define BULKHEAD_HOST_CLI_DOCTOR_H_

#include <functional>

#include "host/cli/program.h"

namespace CLI {
class App;
}

namespace bulkhead {

void AddDoctor(CLI::App& app, const Program& program, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_DOCTOR_H_
