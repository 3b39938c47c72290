// SPDX-License-Identifier: Apache-2.0
//
// What a payload costs that the caller fills in place, and how far the slow calls are from the
// usual one. All in the same rounds, between probes of the raw line (ipc_floor.h), near and far
// apart:
//
//   header   1 MiB is lent, its first line written and read, beside our call without a payload
//   touch    64 KiB are lent, filled and added up by the host, beside raw shared memory and a line
//   tail     p99 and p99.9 of our call of 48 bytes, both awake, by its own p50 in the same unit;
//            the same of the raw line beside it, since a hypervisor's noise is in both
//
// A trip is timed by the processor's time stamp, read once for each; nothing is subtracted.
#ifndef BULKHEAD_BENCH_IPC_PAYLOAD_H_
#define BULKHEAD_BENCH_IPC_PAYLOAD_H_

#include "absl/status/status.h"
#include "bench/bench_run.h"
#include "host/report/report.h"

namespace bulkhead {

// Adds its figures to the report; without limits when the run has none. REQUIRES: two CPUs.
absl::Status MeasurePayloads(const BenchRun& run, int rounds, Report& report);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_IPC_PAYLOAD_H_
