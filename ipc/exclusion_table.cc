// SPDX-License-Identifier: Apache-2.0
#include "ipc/exclusion_table.h"

#include "absl/strings/str_cat.h"

namespace bulkhead {

absl::Status ExclusionTable::Add(pid_t pid) {
  if (pid <= 0) return absl::InvalidArgumentError(absl::StrCat(pid, " is not a process id"));
  if (Contains(pid)) return absl::OkStatus();
  for (uint32_t i = 0; i < kCapacity; ++i) {
    if (pids_[i].load(std::memory_order_relaxed) != 0) continue;
    pids_[i].store(pid, std::memory_order_relaxed);
    if (i >= used_.load(std::memory_order_relaxed)) used_.store(i + 1, std::memory_order_release);
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat("cannot exclude process ", pid, ": ", kCapacity,
                                                   " processes are excluded, which is the limit"));
}

absl::Status ExclusionTable::Remove(pid_t pid) {
  for (std::atomic<int32_t>& entry : pids_) {
    if (pid > 0 && entry.load(std::memory_order_relaxed) == pid) {
      entry.store(0, std::memory_order_relaxed);
      return absl::OkStatus();
    }
  }
  return absl::NotFoundError(absl::StrCat("process ", pid, " is not excluded"));
}

}  // namespace bulkhead
