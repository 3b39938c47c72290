// SPDX-License-Identifier: Apache-2.0
//
// An empty root for a host: a file system of its own in which nothing exists but what it is
// granted, at the same names as outside: the system's libraries, its driver, its content, what the
// manifest grants, four devices, /proc of its own processes, and room to write in.
#ifndef BULKHEAD_HOST_PROCESS_EMPTY_ROOT_H_
#define BULKHEAD_HOST_PROCESS_EMPTY_ROOT_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace bulkhead {

// Where a driver finds the room that its manifest asks for (scratch_mib).
inline constexpr char kScratchFolder[] = "/scratch";

struct RootContents {
  absl::Span<const std::string> readable;  // absolute paths, each with all that is below
  absl::Span<const std::string> writable;  // likewise
  uint64_t scratch_bytes = 0;              // 0: no room
  uid_t user = 0;                          // that the room is for
  gid_t group = 0;
  bool own_processes = false;  // the process id namespace is its own: /proc has nothing else
};

// Makes the root of this process one that has the system's paths (file_access.h) and `contents`,
// read-only but for what is writable, all without set-user-id programs and device nodes. A path
// that is not there is passed over; links are kept as links.
// `without_proc`: why /proc is empty; unchanged where it is not.
// An error: the root is as it was.
// REQUIRES: CAP_SYS_ADMIN and CAP_SYS_CHROOT over a mount namespace that no other process is in;
// no other threads.
absl::Status EnterEmptyRoot(const RootContents& contents, std::string* without_proc);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_EMPTY_ROOT_H_
