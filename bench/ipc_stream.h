// SPDX-License-Identifier: Apache-2.0
//
// A one-way stream of notifications beside raw queues that carry 64 bytes a message, in the same
// rounds: written in batches beside a queue that publishes in batches, and one by one beside a
// queue with a flag in each slot. All writers wait for room, so that nothing is lost: a rate is
// what arrives.
//
// Rounds, probes and distances are ipc_floor.h's.
#ifndef BULKHEAD_BENCH_IPC_STREAM_H_
#define BULKHEAD_BENCH_IPC_STREAM_H_

#include "absl/status/status.h"
#include "bench/bench_run.h"
#include "host/report/report.h"

namespace bulkhead {

// Adds its figures to the report; without limits when the run has none. REQUIRES: two CPUs.
absl::Status MeasureStreams(const BenchRun& run, int rounds, Report& report);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_IPC_STREAM_H_
