// SPDX-License-Identifier: Apache-2.0
//
// BULKHEAD_CHECK: for bugs in our own code only, never for what a peer or an operator can cause. A
// failed check ends the process; its parent handles that as any crash. The check writes one line to
// standard error without allocating, so that it works when the heap is corrupt.
#ifndef BULKHEAD_IPC_CHECK_H_
#define BULKHEAD_IPC_CHECK_H_

namespace bulkhead {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace bulkhead

#define BULKHEAD_CHECK(condition)                            \
  (__builtin_expect(!!(condition), 1) ? static_cast<void>(0) \
                                      : ::bulkhead::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // BULKHEAD_IPC_CHECK_H_
