// SPDX-License-Identifier: Apache-2.0
//
// The text of a DriverEvent, for an operator. The one place that makes it.
#ifndef BULKHEAD_HOST_SERVICE_EVENT_TEXT_H_
#define BULKHEAD_HOST_SERVICE_EVENT_TEXT_H_

#include <string>

#include "host/supervisor/driver_event.h"

namespace bulkhead {

// "serves". Text from drivers is made printable.
std::string EventText(const DriverEvent& event);
// "scanner g3 (pid 42): serves"
std::string EventLine(const DriverEvent& event);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_EVENT_TEXT_H_
