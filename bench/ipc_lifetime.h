// SPDX-License-Identifier: Apache-2.0
//
// How long it takes to have a channel, and to know that its host is dead.
#ifndef BULKHEAD_BENCH_IPC_LIFETIME_H_
#define BULKHEAD_BENCH_IPC_LIFETIME_H_

#include "absl/status/status.h"
#include "bench/bench_run.h"
#include "host/report/report.h"

namespace bulkhead {

// From nothing to the end of the first call on a new channel, whose host process runs already: it
// waits for the regions at a socket, as a host waits for Attach. In parts.
absl::Status MeasureNewChannel(const BenchRun& run, int rounds, Report& report);

// From SIGKILL of a host that has a call in hand to that call's end by policy: told by its life
// line, as a supervisor is, and by nothing but a robust mutex that the host's worker held; hosts
// with and without much memory, all in the same rounds.
absl::Status MeasureDeath(const BenchRun& run, int rounds, Report& report);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_IPC_LIFETIME_H_
