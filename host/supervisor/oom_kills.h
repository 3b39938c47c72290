// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_OOM_KILLS_H_
#define BULKHEAD_HOST_SUPERVISOR_OOM_KILLS_H_

#include <cstdint>
#include <optional>
#include <string>

namespace bulkhead {

// How many processes the kernel has killed for want of memory: in the control group of this
// process, where that counts them (version 2, memory.events), else on the machine (/proc/vmstat).
// Nothing where neither does. The kernel counts before it sends the signal (mm/oom_kill.c,
// __oom_kill_process()): whoever sees a victim dead sees it counted.
//
// `proc` and `cgroups`: where they are mounted.
std::optional<uint64_t> OomKills(const std::string& proc = "/proc",
                                 const std::string& cgroups = "/sys/fs/cgroup");

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_OOM_KILLS_H_
