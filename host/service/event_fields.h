// SPDX-License-Identifier: Apache-2.0
//
// An event as it travels and as it is written for programs; docs/events.md has its schema.
#ifndef BULKHEAD_HOST_SERVICE_EVENT_FIELDS_H_
#define BULKHEAD_HOST_SERVICE_EVENT_FIELDS_H_

#include <cstdint>
#include <string>

#include "host/supervisor/driver_event.h"
#include "ipc/control/operator_protocol.h"

namespace bulkhead {

// Without a sequence number. `at_us`: CLOCK_REALTIME, in microseconds.
EventFields FieldsOf(const DriverEvent& event, uint64_t at_us);

// One JSON object on one line, without the newline: what is 0 or empty is left out, bytes that are
// no UTF-8 are replaced.
std::string EventJson(const EventFields& event);

// "driver", "guard", "driver,guard": bits of enum bh_audited.
std::string AuditedText(uint32_t audited);

// "2026-11-30T17:12:33.123456Z"
std::string TimeText(uint64_t at_us);
const char* LevelName(wire::LogLevel level);  // "warning"

// Now, by CLOCK_REALTIME, in microseconds.
uint64_t WallClockUs();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_EVENT_FIELDS_H_
