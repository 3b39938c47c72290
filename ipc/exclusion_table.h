// SPDX-License-Identifier: Apache-2.0
//
// ExclusionTable: the processes that cause no calls by their accesses (invariant 4): supervisor,
// shim, hosts.
//
// Plain memory that is valid when it is all zero, so that it can be in memory shared between a
// supervisor (the only writer) and a shim (which reads it for each event). Both are trusted.
//
// SUBTLE: entries are read and written relaxed. A process is added before it runs an instruction of
// its own and removed after it was reaped, so a slightly old state is never wrong about a living
// process.
#ifndef BULKHEAD_IPC_EXCLUSION_TABLE_H_
#define BULKHEAD_IPC_EXCLUSION_TABLE_H_

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "absl/status/status.h"

namespace bulkhead {

class ExclusionTable {
 public:
  static constexpr uint32_t kCapacity = 254;

  // Adding twice counts once. ResourceExhausted when the table is full. One writer at a time.
  absl::Status Add(pid_t pid);
  // NotFound when the process is not in the table.
  absl::Status Remove(pid_t pid);

  // Any thread, any process that maps the table.
  bool Contains(pid_t pid) const {
    if (pid <= 0) return false;
    const uint32_t used = std::min(used_.load(std::memory_order_acquire), kCapacity);
    for (uint32_t i = 0; i < used; ++i) {
      if (pids_[i].load(std::memory_order_relaxed) == pid) return true;
    }
    return false;
  }

 private:
  std::atomic<uint32_t> used_{0};  // entries that may be occupied; never shrinks
  [[maybe_unused]] uint32_t reserved_ = 0;
  std::array<std::atomic<int32_t>, kCapacity> pids_ = {};  // 0: free
};
static_assert(sizeof(ExclusionTable) == 1024);
static_assert(std::atomic<int32_t>::is_always_lock_free);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_EXCLUSION_TABLE_H_
