// SPDX-License-Identifier: Apache-2.0
//
// What processes have of the machine: memory, descriptors, children that ended, control groups. For
// programs that look for leaks.
//
// Threads: any.
#ifndef BULKHEAD_TESTS_STORM_PROCESS_CENSUS_H_
#define BULKHEAD_TESTS_STORM_PROCESS_CENSUS_H_

#include <sys/types.h>

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/statusor.h"

namespace bulkhead {

// Of /proc/PID/smaps_rollup, in KiB. `anonymous` is what the process has written to memory of its
// own: heap, stacks, data. `resident` has the pages of files and of shared memory that it has
// touched, too.
struct MemoryUse {
  double resident_kib = 0;
  double anonymous_kib = 0;
};
absl::StatusOr<MemoryUse> MemoryOf(pid_t pid);

struct DescriptorUse {
  size_t all = 0;
  size_t memfds = 0;
};
DescriptorUse DescriptorsOf(pid_t pid);

// -1: there is no such process.
pid_t ParentOf(pid_t pid);
// Children of these processes that have ended and were not waited for.
size_t ZombiesOf(const std::set<pid_t>& parents);
// Control groups of hosts that these services have made, in every hierarchy that is mounted.
size_t HostCgroupsOf(const std::set<pid_t>& services);
// Of this process' namespace.
size_t Mounts();
size_t EntriesIn(const std::string& folder);

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_STORM_PROCESS_CENSUS_H_
