// SPDX-License-Identifier: Apache-2.0
//
// The first layer of a host's sandbox, entered before a byte of the driver runs: a driver answers
// calls and reads the files that it is given. It starts no programs, opens no sockets, writes no
// files and reads no other process.
//
// Layers are bits, so that a later, stricter layer can be requested without changing the interface.
#ifndef BULKHEAD_HOST_PROCESS_SANDBOX_H_
#define BULKHEAD_HOST_PROCESS_SANDBOX_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace bulkhead {

enum SandboxLayer : uint32_t {
  kSandboxPrivileges = 1u << 0,   // no_new_privs, no capabilities, no core dumps, not traceable
  kSandboxLimits = 1u << 1,       // rlimits: open files
  kSandboxSystemCalls = 1u << 2,  // seccomp allow-list
  kSandboxAll = kSandboxPrivileges | kSandboxLimits | kSandboxSystemCalls,
};

// Applies the layers to the calling process, permanently. Call before it has other threads. Of all
// ioctl requests it may make those in `ioctls` only.
absl::Status EnterSandbox(uint32_t layers, absl::Span<const unsigned long> ioctls);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_SANDBOX_H_
