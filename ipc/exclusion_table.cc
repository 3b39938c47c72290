// SPDX-License-Identifier: Apache-2.0
#include "ipc/exclusion_table.h"

#include "absl/strings/str_cat.h"

namespace bulkhead {

absl::Status ExclusionTable::AddPeer(pid_t pid) {
  if (IsPeer(pid)) return absl::OkStatus();
  const absl::Status stored = Store(pid, -pid);
  if (stored.ok()) peers_.fetch_add(1, std::memory_order_relaxed);
  return stored;
}

absl::Status ExclusionTable::Store(pid_t pid, int32_t entry) {
  if (pid <= 0) return absl::InvalidArgumentError(absl::StrCat(pid, " is not a process id"));
  if (Has(entry)) return absl::OkStatus();
  for (uint32_t i = 0; i < kCapacity; ++i) {
    if (pids_[i].load(std::memory_order_relaxed) != 0) continue;
    pids_[i].store(entry, std::memory_order_relaxed);
    if (i >= used_.load(std::memory_order_relaxed)) used_.store(i + 1, std::memory_order_release);
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat("cannot exclude process ", pid, ": ", kCapacity,
                                                   " processes are excluded, which is the limit"));
}

absl::Status ExclusionTable::RemovePeer(pid_t pid) {
  const absl::Status erased = Erase(pid, -pid);
  if (erased.ok()) peers_.fetch_sub(1, std::memory_order_relaxed);
  return erased;
}

absl::Status ExclusionTable::Erase(pid_t pid, int32_t entry) {
  for (std::atomic<int32_t>& place : pids_) {
    if (pid > 0 && place.load(std::memory_order_relaxed) == entry) {
      place.store(0, std::memory_order_relaxed);
      return absl::OkStatus();
    }
  }
  return absl::NotFoundError(absl::StrCat("process ", pid, " is not excluded"));
}

}  // namespace bulkhead
