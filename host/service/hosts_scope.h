// SPDX-License-Identifier: Apache-2.0
//
// HostsScope: under systemd, the unit of the processes that outlive their service: its store, its
// shim and its hosts. In the service's own control group they would end with it, and a group with
// limited groups below it takes no process: the next service could not be started there.
//
//   system.slice/bulkhead.service           this process, and nothing else
//   system.slice/bulkhead-hosts.scope/
//     bulkhead-service                      store and shim
//     bulkhead-host-PID-N                   a host (host/supervisor/host_cgroup.h)
//
// A scope has no program that systemd would start in it: it begins with the store, and is gone when
// its last process is. systemd is asked for it over its own socket, which is there before D-Bus.
#ifndef BULKHEAD_HOST_SERVICE_HOSTS_SCOPE_H_
#define BULKHEAD_HOST_SERVICE_HOSTS_SCOPE_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bulkhead {

struct HostsScope {
  std::string unit;     // bulkhead-hosts.scope; empty: there is none
  std::string folder;   // of its control group
  std::string members;  // the file to which a process's id is written that is to be in it

  // Where the scope of this process would be: none, unless /proc/self/cgroup (`groups`) names a
  // service of systemd in control groups of version 2.
  static HostsScope Of(const std::string& groups, const std::string& mount = "/sys/fs/cgroup");

  // Asks systemd for it, unless `store` is in it already, and waits until it is.
  absl::Status Enter(pid_t store) const;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_HOSTS_SCOPE_H_
