// SPDX-License-Identifier: Apache-2.0
//
// ExclusionTable: the processes that cause no calls by their accesses (invariant 4): supervisor,
// shim, hosts.
//
// Plain memory that is valid when it is all zero, so that it can be in memory shared between a
// supervisor (the only writer) and a shim (which reads it for each event). Both are trusted.
//
// A peer is the supervisor of another instance: it is excluded, too, and what its children wait for
// is not held (shim/fanotify/reader.h).
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
  absl::Status Add(pid_t pid) { return Store(pid, pid); }
  // The same for a peer.
  absl::Status AddPeer(pid_t pid);
  // NotFound when the process is not in the table as that.
  absl::Status Remove(pid_t pid) { return Erase(pid, pid); }
  absl::Status RemovePeer(pid_t pid);

  // Any thread, any process that maps the table.
  bool Contains(pid_t pid) const { return pid > 0 && (Has(pid) || IsPeer(pid)); }
  bool HasPeers() const { return peers_.load(std::memory_order_relaxed) != 0; }
  bool IsPeer(pid_t pid) const { return pid > 0 && HasPeers() && Has(-pid); }

 private:
  bool Has(int32_t entry) const {
    const uint32_t used = std::min(used_.load(std::memory_order_acquire), kCapacity);
    for (uint32_t i = 0; i < used; ++i) {
      if (pids_[i].load(std::memory_order_relaxed) == entry) return true;
    }
    return false;
  }
  absl::Status Store(pid_t pid, int32_t entry);
  absl::Status Erase(pid_t pid, int32_t entry);

  std::atomic<uint32_t> used_{0};  // entries that may be occupied; never shrinks
  std::atomic<uint32_t> peers_{0};
  std::array<std::atomic<int32_t>, kCapacity> pids_ = {};  // 0: free; negative: of a peer
};
static_assert(sizeof(ExclusionTable) == 1024);
static_assert(std::atomic<int32_t>::is_always_lock_free);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_EXCLUSION_TABLE_H_
