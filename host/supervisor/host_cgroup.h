// SPDX-License-Identifier: Apache-2.0
//
// Control groups of hosts: each process has one of its own, which limits its memory of every kind
// (also what RLIMIT_DATA does not count: shared memory, files it writes, the kernel's memory for
// it), its threads and, where the manifest says so, its processor time. They are made below the
// group that this service is in.
//
// Version 2 needs a group that is the service's alone (systemd: Delegate=yes): one with processes
// in it can't have limited groups below, so the service moves to a group beside its hosts'. In
// version 1, and in a machine with both, the memory, pids and cpu hierarchies are used where each
// can be written.
//
// Threads: one.
#ifndef BULKHEAD_HOST_SUPERVISOR_HOST_CGROUP_H_
#define BULKHEAD_HOST_SUPERVISOR_HOST_CGROUP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// In version 2: the group, beside those of hosts, of the processes that serve them.
inline constexpr char kServiceGroup[] = "bulkhead-service";

// What a host may take.
struct HostLimits {
  uint64_t memory_bytes_max = 0;   // private: heap, static data, stacks; not the files that it maps
  uint64_t scratch_bytes_max = 0;  // in files of its own
  uint32_t cpu_percent_max = 0;    // 100: one processor; 0: no limit
};

// The group of one host.
class HostCgroup {
 public:
  HostCgroup() = default;

  // The last name of its path; empty: there is none.
  const std::string& name() const { return name_; }
  // Of version 2: the folder, for clone3(); else not valid.
  const UniqueFd& folder() const { return folder_; }
  // Files to which a process writes "0" to enter the group; in version 2 one.
  absl::Span<const UniqueFd> doors() const { return doors_; }
  // How many processes in it were killed for want of memory. Nothing where that is not counted.
  std::optional<uint64_t> OomKills() const;
  // REQUIRES: no process is in it. What can't be removed is removed at the next start.
  void Remove();

 private:
  friend class HostCgroups;
  std::string name_;
  std::vector<std::string> paths_;
  std::string oom_counter_;  // a file
  UniqueFd folder_;
  std::vector<UniqueFd> doors_;
};

class HostCgroups {
 public:
  // Looks for hierarchies that this process may use, and removes what killed services have left in
  // them. In version 2 it moves this process, and its children. `proc`: where that is mounted.
  // `apart`: the folder of a group of version 2 that hosts have for themselves, with processes in
  // its subgroups only; empty: they are in this process's group.
  static HostCgroups Find(const std::string& proc = "/proc", const std::string& apart = "");
  HostCgroups(HostCgroups&&) = default;
  HostCgroups& operator=(HostCgroups&&) = delete;
  // Where it has moved this process, it moves it back, as the next one may be started there.
  ~HostCgroups();

  // Why there are none; empty: there are.
  const std::string& lacks() const { return lacks_; }
  absl::StatusOr<HostCgroup> Make(const HostLimits& limits);
  // That of a host of a service before this one, by its name; one without a name when it is not
  // there. It has no doors.
  HostCgroup Reopen(const std::string& name) const;

 private:
  HostCgroups() = default;
  struct Hierarchy {
    std::string base;     // the folder in which groups are made
    std::string service;  // of version 2: the group that this process was moved to; empty: none
    bool version2 = false;
    bool memory = false, pids = false, cpu = false;
  };
  static std::vector<Hierarchy> Hierarchies(const std::string& proc, const std::string& apart,
                                            std::string* lacks);
  // In version 2: leaves `base` to its groups, unless that is `apart`. What it misses.
  static std::string Prepare(Hierarchy& hierarchy, const std::string& apart);
  static void GiveBack(const Hierarchy& hierarchy);
  static std::string OomCounterOf(const Hierarchy& hierarchy, const std::string& path);
  static void RemoveLeftovers(const std::string& base);
  absl::Status Limit(const Hierarchy& hierarchy, const std::string& path, const HostLimits& limits);

  std::vector<Hierarchy> hierarchies_;
  std::string lacks_;
  uint64_t made_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_HOST_CGROUP_H_
