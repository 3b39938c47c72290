// SPDX-License-Identifier: Apache-2.0
//
// A host's sandbox, entered before a byte of the driver runs: a driver answers calls and reads the
// files that it is given. It starts no programs, opens no sockets, reaches no other process, and
// opens no files but its own, the system's libraries and what its manifest grants.
//
// The layers are those of ipc/abi/sandbox.h. Most of what a driver must not do is refused by more
// than one of them: one that this machine lacks, or that has a hole, is not the only one. Two are
// the supervisor's to make, when it starts the process: the process id namespace and the control
// group. Here they are tested only.
#ifndef BULKHEAD_HOST_PROCESS_SANDBOX_H_
#define BULKHEAD_HOST_PROCESS_SANDBOX_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "ipc/abi/sandbox.h"

namespace bulkhead {

struct SandboxGrants {
  absl::Span<const unsigned long> ioctls;       // the ioctl requests that it may make
  absl::Span<const std::string> readable = {};  // see LimitFiles() in file_access.h
  absl::Span<const std::string> writable = {};  // likewise
  uint64_t scratch_bytes = 0;                   // room in kScratchFolder (empty_root.h)
  uid_t user = 0;                               // and group, that the process becomes; 0: none
  std::string group;                            // the last name of its control group; empty: none
  // Why the supervisor has not made these.
  std::string user_lacks, group_lacks, processes_lack;
};

struct SandboxReport {
  uint32_t layers = 0;             // entered, and found to hold by a test from inside
  std::vector<std::string> lacks;  // of each other one that was wanted: "files: why"
  bh_sandbox_level level() const { return bh_sandbox_level_of(layers); }
};

// Enters the layers, permanently, and tests each. A layer that this machine lacks, or that does not
// hold, is in the report. An error: the process is of no use as a host. A grant to write needs a
// layer that confines it: FILES or MOUNTS, and for the room MOUNTS.
// REQUIRES: the process has no other threads.
absl::Status EnterSandbox(uint32_t layers, const SandboxGrants& grants, SandboxReport* report);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_SANDBOX_H_
