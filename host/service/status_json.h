// SPDX-License-Identifier: Apache-2.0
//
// The state of a service for programs: an element of "running" of `bulkhead status --json`, and
// what the page reads.
#ifndef BULKHEAD_HOST_SERVICE_STATUS_JSON_H_
#define BULKHEAD_HOST_SERVICE_STATUS_JSON_H_

#include <nlohmann/json_fwd.hpp>

#include "ipc/control/operator_protocol.h"

namespace bulkhead {

// Texts are as they came: not of UTF-8 alone, and not made printable.
nlohmann::ordered_json StatusJson(const StatusFields& status);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_STATUS_JSON_H_
