// SPDX-License-Identifier: Apache-2.0
//
// How calls scale: with callers of one host, and with hosts of which one is called. Every number of
// callers or hosts is measured in every round, in a new order each time; ratios are formed round by
// round, from units that ran milliseconds apart, and the median of the rounds counts.
#ifndef BULKHEAD_BENCH_IPC_SCALING_H_
#define BULKHEAD_BENCH_IPC_SCALING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/bench_run.h"
#include "host/report/report.h"

namespace bulkhead {

// What was measured with so many callers or hosts: one value for each round.
struct ScalingPoint {
  int count = 0;
  std::vector<double> calls_per_s, p50_ns, p99_ns;
};

struct ScalingResult {
  // Threads that call one host without a pause. Host and channel are as a service makes them: their
  // workers and spin budgets are the default, and the scheduler places all threads.
  std::vector<ScalingPoint> callers;
  // Host processes, each on a channel of its own, of which one is called: it spins on a CPU beside
  // the caller's, or it is asleep when the call comes. The others have nothing to do.
  std::vector<ScalingPoint> hosts_awake, hosts_asleep;
  uint64_t calls_failed = 0;
};

// REQUIRES: two CPUs.
absl::StatusOr<ScalingResult> MeasureScaling(const BenchRun& run, int rounds);

void AddScaling(const ScalingResult& scaling, bool limited, Report& report);
// Both as curves, for the page.
std::string ScalingPlots(const ScalingResult& scaling);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_IPC_SCALING_H_
