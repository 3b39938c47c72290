// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_STATUS_H_
#define BULKHEAD_HOST_CLI_STATUS_H_

#include <string>

namespace bulkhead {

// Prints what runs, and writes it to the file `json` unless that is empty; an exit code. `check`: 1
// also when the protection of a guard or a driver is not full.
int ShowStatus(const std::string& json, bool check);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_STATUS_H_
