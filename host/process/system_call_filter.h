// SPDX-License-Identifier: Apache-2.0
//
// The system calls that a host may make: a seccomp filter.
#ifndef BULKHEAD_HOST_PROCESS_SYSTEM_CALL_FILTER_H_
#define BULKHEAD_HOST_PROCESS_SYSTEM_CALL_FILTER_H_

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace bulkhead {

// From here on this process makes the system calls of a driver that computes, reads files that it
// was given and waits, the `ioctls` of these, and, if it `writes`, those that write, make, rename
// and remove files. Others fail with EPERM; those that no driver makes by mistake end it.
// REQUIRES: no_new_privs; the process has no other threads.
absl::Status FilterSystemCalls(absl::Span<const unsigned long> ioctls, bool writes);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_SYSTEM_CALL_FILTER_H_
