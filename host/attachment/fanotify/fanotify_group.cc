// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/fanotify_group.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/attachment/fanotify/mount_table.h"

namespace bulkhead {
namespace {

uint64_t MaskOf(const bh_callback_set& callbacks) {
  uint64_t mask = 0;
  if (bh_set_has(&callbacks, BH_CALLBACK_FILE_OPEN) != 0) mask |= FAN_OPEN_PERM;
  if (bh_set_has(&callbacks, BH_CALLBACK_FILE_EXEC) != 0) mask |= FAN_OPEN_EXEC_PERM;
  if (bh_set_has(&callbacks, BH_CALLBACK_FILE_ACCESS) != 0) mask |= FAN_ACCESS_PERM;
  return mask;
}

// The flag for fanotify_mark(2); none for kDirectory.
unsigned FlagOf(MarkKind kind) {
  if (kind == MarkKind::kMount) return FAN_MARK_MOUNT;
  return kind == MarkKind::kFilesystem ? unsigned{FAN_MARK_FILESYSTEM} : 0u;
}

// Magic numbers that <linux/magic.h> does not have are from the file systems' own sources.
constexpr uint32_t kLocalTypes[] = {
    EXT4_SUPER_MAGIC,     XFS_SUPER_MAGIC,       BTRFS_SUPER_MAGIC,    TMPFS_MAGIC,
    RAMFS_MAGIC,          OVERLAYFS_SUPER_MAGIC, F2FS_SUPER_MAGIC,     SQUASHFS_MAGIC,
    ISOFS_SUPER_MAGIC,    MSDOS_SUPER_MAGIC,     REISERFS_SUPER_MAGIC, EXFAT_SUPER_MAGIC,
    EROFS_SUPER_MAGIC_V1, UDF_SUPER_MAGIC,
    0x3153464a,  // JFS
    0x2fc12fc1,  // ZFS
    0xca451a4e,  // bcachefs
    0x7366746e,  // NTFS (ntfs3)
};

}  // namespace

bool OpensMayWait(int directory) {
  struct statfs system;
  if (fstatfs(directory, &system) != 0) return true;
  const auto type = static_cast<uint32_t>(system.f_type);
  return std::find(std::begin(kLocalTypes), std::end(kLocalTypes), type) == std::end(kLocalTypes);
}

absl::StatusOr<FanotifyGroup> FanotifyGroup::Create() {
  UniqueFd group(fanotify_init(
      FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS,
      // Non-blocking: otherwise a lease on a file would make this process wait until its holder
      // breaks it.
      O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NONBLOCK));
  if (group.valid()) return FanotifyGroup(std::move(group));
  switch (errno) {
    case EPERM:
      return absl::PermissionDeniedError(
          "guarding files through fanotify needs CAP_SYS_ADMIN: run as root, or use `bulkhead "
          "scan`, which needs no privileges");
    case ENOSYS:
      return absl::FailedPreconditionError(
          "the kernel has no fanotify (CONFIG_FANOTIFY): use `bulkhead scan`");
    case EMFILE:
      return absl::ResourceExhaustedError(
          "too many fanotify groups or descriptors: raise fs.fanotify.max_user_groups or ulimit "
          "-n");
    default:
      return absl::ErrnoToStatus(errno, "cannot create a fanotify group");
  }
}

absl::Status FanotifyGroup::Mark(int directory, MarkKind kind, const bh_callback_set& callbacks,
                                 const std::string& name) {
  uint64_t mask = MaskOf(callbacks);
  if (mask == 0)
    return absl::InvalidArgumentError(
        "nothing to guard: choose at least one of open, exec, access");
  if (kind == MarkKind::kAuto) {
    return absl::InvalidArgumentError("a mark needs a kind other than auto");
  }
  if (kind == MarkKind::kDirectory) mask |= FAN_EVENT_ON_CHILD;
  const unsigned flags = FAN_MARK_ADD | FlagOf(kind);
  if (fanotify_mark(group_.get(), flags, mask, directory, nullptr) == 0) return absl::OkStatus();
  switch (errno) {
    case EINVAL:
      return absl::FailedPreconditionError(absl::StrCat(
          "the kernel refuses permission events on ", name, " (it needs ",
          "CONFIG_FANOTIFY_ACCESS_PERMISSIONS, and a file system that supports them)"));
    case ENODEV:
    case EXDEV:
    case EOPNOTSUPP:
      return absl::FailedPreconditionError(absl::StrCat("the file system of ", name,
                                                        " cannot be guarded by a mark of kind ",
                                                        MarkKindName(kind)));
    case ENOSPC:
      return absl::ResourceExhaustedError("too many marks: raise fs.fanotify.max_user_marks");
    default:
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot mark ", name));
  }
}

// Removing an event that no mark here has changes nothing, and fails where there is no mark.
bool FanotifyGroup::HasMark(int directory, MarkKind kind) const {
  return fanotify_mark(group_.get(), FAN_MARK_REMOVE | FlagOf(kind), FAN_CLOSE_WRITE, directory,
                       nullptr) == 0;
}

void FanotifyGroup::RemoveMarks() {
  for (const unsigned kind : {0u, unsigned{FAN_MARK_MOUNT}, unsigned{FAN_MARK_FILESYSTEM}}) {
    fanotify_mark(group_.get(), FAN_MARK_FLUSH | kind, 0, AT_FDCWD, "/");
  }
}

absl::StatusOr<MarkKind> ChooseMarkKind(int directory, const std::string& name) {
  struct statx object;
  if (statx(directory, "", AT_EMPTY_PATH, STATX_MNT_ID, &object) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot stat ", name));
  }
  const bool mount_root = (object.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0 &&
                          (object.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  if (!mount_root || (object.stx_mask & STATX_MNT_ID) == 0) return MarkKind::kDirectory;
  const absl::StatusOr<std::vector<MountEntry>> mounts = ReadMounts();
  if (!mounts.ok()) return mounts.status();
  for (const MountEntry& mount : *mounts) {
    if (mount.id == object.stx_mnt_id && mount.root == "/") return MarkKind::kFilesystem;
  }
  return MarkKind::kDirectory;
}

}  // namespace bulkhead
