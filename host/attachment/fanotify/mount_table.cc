// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/mount_table.h"

#include <libmount.h>

#include <cerrno>
#include <memory>
#include <utility>

namespace bulkhead {

absl::StatusOr<std::vector<MountEntry>> ReadMounts() {
  constexpr const char* kTable = "/proc/self/mountinfo";
  const std::unique_ptr<libmnt_table, void (*)(libmnt_table*)> table(
      mnt_new_table_from_file(kTable), mnt_unref_table);
  if (table == nullptr) return absl::ErrnoToStatus(errno, kTable);
  const std::unique_ptr<libmnt_iter, void (*)(libmnt_iter*)> at(mnt_new_iter(MNT_ITER_FORWARD),
                                                                mnt_free_iter);
  if (at == nullptr) return absl::ResourceExhaustedError("no memory for the table of mounts");
  std::vector<MountEntry> mounts;
  libmnt_fs* fs = nullptr;
  while (mnt_table_next_fs(table.get(), at.get(), &fs) == 0) {
    const char* root = mnt_fs_get_root(fs);
    const char* point = mnt_fs_get_target(fs);
    const char* type = mnt_fs_get_fstype(fs);
    if (root == nullptr || point == nullptr || type == nullptr) continue;
    mounts.push_back({static_cast<uint64_t>(mnt_fs_get_id(fs)), root, point, type});
  }
  return mounts;
}

}  // namespace bulkhead
