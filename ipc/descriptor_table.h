// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_IPC_DESCRIPTOR_TABLE_H_
#define BULKHEAD_IPC_DESCRIPTOR_TABLE_H_

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

namespace bulkhead {

// Makes this process's table of descriptors long enough for `count`, as far as its limit allows.
//
// The kernel lengthens a table when it is full: at 64, 256, and so on. For a process with threads,
// or with a table that it shares, it then waits until each CPU has been through its scheduler
// (expand_fdtable() in Linux's fs/file.c: synchronize_rcu()). That took 8 ms in the middle of an
// adoption with one CPU busy, and takes longer with all of them. A table of 1,024 is 8 KiB.
//
// REQUIRES: the process has no thread yet.
inline void ReserveDescriptors(rlim_t count = 1024) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == 0) return;
  const rlim_t last = std::min(count, limit.rlim_cur) - 1;
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  const int highest = fcntl(file, F_DUPFD_CLOEXEC, static_cast<int>(last));
  if (highest >= 0) close(highest);
  close(file);
}

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_DESCRIPTOR_TABLE_H_
