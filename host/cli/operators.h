// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_OPERATORS_H_
#define BULKHEAD_HOST_CLI_OPERATORS_H_

#include <functional>

namespace CLI {
class App;
}

namespace bulkhead {

// The commands that ask running instances: status, content, release, reload, sign-in, stop.
void AddOperators(CLI::App& app, std::function<int()>* run);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_OPERATORS_H_
