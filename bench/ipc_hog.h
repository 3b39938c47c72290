// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_IPC_HOG_H_
#define BULKHEAD_BENCH_IPC_HOG_H_

#include "absl/status/status.h"
#include "bench/bench_run.h"
#include "host/report/report.h"

namespace bulkhead {

// The tail of calls to a host whose CPU another process burns: with the default spin budgets, which
// have to notice it, beside a channel and host that never spin, in the same rounds. That second one
// is measured twice: how far it is from itself is the noise. Calls follow each other at once, or
// with a pause within which a spinning host would not sleep.
absl::Status MeasureHog(const BenchRun& run, int rounds, Report& report);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_IPC_HOG_H_
