// SPDX-License-Identifier: Apache-2.0
//
// The first layer of a host's sandbox, entered before a byte of the driver runs: a driver answers
// calls and reads the files that it is given. It starts no programs, opens no sockets, writes no
// files, reads no other process, and opens no files but its own and the system's libraries.
//
// Layers are bits, so that a later, stricter layer can be requested without changing the interface.
#ifndef BULKHEAD_HOST_PROCESS_SANDBOX_H_
#define BULKHEAD_HOST_PROCESS_SANDBOX_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace bulkhead {

enum SandboxLayer : uint32_t {
  kSandboxPrivileges =
      1u << 0,  // its own user, no_new_privs, no capabilities, no core dumps, not traceable
  kSandboxLimits = 1u << 1,       // rlimits: open files; threads, of a user of its own
  kSandboxSystemCalls = 1u << 2,  // seccomp allow-list
  kSandboxFiles = 1u << 3,        // which files it may open by name; needs kSandboxPrivileges
  kSandboxAll = kSandboxPrivileges | kSandboxLimits | kSandboxSystemCalls | kSandboxFiles,
};

struct SandboxGrants {
  absl::Span<const unsigned long> ioctls;       // the ioctl requests that it may make
  absl::Span<const std::string> readable = {};  // see LimitFiles() in file_access.h
  uid_t user = 0;                               // and group, that the process becomes; 0: none
};

// Applies the layers to the calling process, permanently. Call before it has other threads. The
// names of layers that this machine does not have are added to `missing`.
absl::Status EnterSandbox(uint32_t layers, const SandboxGrants& grants,
                          std::vector<std::string>* missing = nullptr);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_SANDBOX_H_
