// SPDX-License-Identifier: Apache-2.0
//
// BULKHEAD_CHECK: for bugs of ours, never for what a peer or an operator can cause. It ends the
// process, whose callers its parent then treats like those of any crash. Writes one line to
// standard error without allocating, so that it works in a process whose heap is ruined.
#ifndef BULKHEAD_IPC_CHECK_H_
#define BULKHEAD_IPC_CHECK_H_

#include "ipc/abi/types.h"

namespace bulkhead {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace bulkhead

#define BULKHEAD_CHECK(condition)                  \
  (__builtin_expect(!BH_CHECKED || (condition), 1) \
       ? static_cast<void>(0)                      \
       : ::bulkhead::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // BULKHEAD_IPC_CHECK_H_
