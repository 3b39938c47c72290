// SPDX-License-Identifier: Apache-2.0
//
// What a call costs beside the cheapest thing that does the same work, in the same rounds: the raw
// line where both spin, the futex where one or both sleep. A unit of measurement is some hundred or
// thousand round trips of each; around it stands a probe of the raw line, and a unit whose probes
// disagree is dropped, because the CPUs moved. Ratios are formed unit by unit; the median counts.
//
// Google Benchmark runs the units, those of all cases interleaved at random: each is one
// repetition.
#ifndef BULKHEAD_BENCH_IPC_FLOOR_H_
#define BULKHEAD_BENCH_IPC_FLOOR_H_

#include "absl/status/status.h"
#include "bench/bench_run.h"
#include "host/report/report.h"

namespace bulkhead {

// Adds its figures to the report; without limits when the run has none. REQUIRES: two CPUs.
absl::Status MeasureFloors(const BenchRun& run, int units, Report& report);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_IPC_FLOOR_H_
