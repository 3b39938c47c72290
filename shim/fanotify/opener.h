// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_SHIM_FANOTIFY_OPENER_H_
#define BULKHEAD_SHIM_FANOTIFY_OPENER_H_

#include <sys/types.h>

#include <cstdint>

namespace bulkhead {

// Of processes whose user can't be found out: all of them have one share together.
inline constexpr uint32_t kUnknownOpener = UINT32_MAX;

// Whose calls a process's calls are (bh_call::opener): its real user id + 1. In a user namespace it
// is the id of the user who made the namespace, which may have any number of users of its own; one
// that root made is not looked at. Reads /proc: some ten microseconds. Any thread.
uint32_t OpenerOf(pid_t process);

// The process that started it, or -1.
pid_t ParentOf(pid_t process);

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_OPENER_H_
