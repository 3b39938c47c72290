// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_IDLE_HOSTS_H_
#define BULKHEAD_BENCH_IDLE_HOSTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "bench/bench_run.h"
#include "host/report/report.h"

namespace bulkhead {

// What 64 hosts take that have nothing to do: bulkhead-host with the driver "null", started and
// watched by supervisors as a service does. Wake-ups are the kernel's count of their threads'
// context switches; those of a host's first thread, which answers its supervisor, stand apart from
// those of its workers. NotFound when bulkhead-host does not stand beside this program.
//
// The process is not dumpable afterwards.
absl::Status MeasureIdleHosts(const BenchRun& run, uint64_t span_ns, Report& report);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_IDLE_HOSTS_H_
