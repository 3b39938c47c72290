// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SERVICE_METRICS_TEXT_H_
#define BULKHEAD_HOST_SERVICE_METRICS_TEXT_H_

#include <cstdint>
#include <map>
#include <string>

#include "ipc/control/operator_protocol.h"

namespace bulkhead {

// The state of a service as Prometheus reads it (text format, version 0.0.4). docs/metrics.md lists
// the names. `events`: how often each kind has happened.
//
// Of each driver every call that was started has ended in one way or is open: the sum of
// bulkhead_calls_ended_total over `outcome` and `reason`, and bulkhead_calls_open, is
// bulkhead_calls_started_total, exactly. While calls run the numbers are not of one moment: then
// bulkhead_calls_open may be off by as many as ended while they were read.
std::string MetricsText(const StatusFields& status, const std::map<std::string, uint64_t>& events);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_METRICS_TEXT_H_
