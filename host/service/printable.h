// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SERVICE_PRINTABLE_H_
#define BULKHEAD_HOST_SERVICE_PRINTABLE_H_

#include <string>
#include <string_view>

namespace bulkhead {

// For a terminal: what a file's name or a driver's line holds of control characters becomes '?'.
std::string Printable(std::string_view text);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_PRINTABLE_H_
