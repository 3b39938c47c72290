// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SERVICE_RESIDENT_BYTES_H_
#define BULKHEAD_HOST_SERVICE_RESIDENT_BYTES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ipc/control/operator_protocol.h"

namespace bulkhead {

// The resident memory of the processes of a service, by "service", "shim" and "host:DRIVER"; 0 when
// the process is gone.
std::vector<std::pair<std::string, uint64_t>> ResidentBytes(const StatusFields& status);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_RESIDENT_BYTES_H_
