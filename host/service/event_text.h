// SPDX-License-Identifier: Apache-2.0
//
// The text of a DriverEvent, for an operator. The one place that makes it.
#ifndef BULKHEAD_HOST_SERVICE_EVENT_TEXT_H_
#define BULKHEAD_HOST_SERVICE_EVENT_TEXT_H_

#include <cstddef>
#include <string>

#include "host/supervisor/driver_event.h"

namespace bulkhead {

// "serves". Text from drivers is made printable.
std::string EventText(const DriverEvent& event);
// A text of bh_denial: other processes' bytes.
std::string DenialText(const char* field, size_t bytes);
template <size_t kBytes>
std::string DenialText(const char (&field)[kBytes]) {
  return DenialText(field, kBytes);
}
// "scanner g3 (pid 42): serves"
std::string EventLine(const DriverEvent& event);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_EVENT_TEXT_H_
