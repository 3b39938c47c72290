// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/place.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "absl/strings/str_cat.h"

namespace bulkhead {

absl::StatusOr<DirectoryId> IdOf(int directory) {
  struct statx object;
  // The file system is not asked: FUSE or NFS may not answer.
  if (statx(directory, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO | STATX_MNT_ID, &object) !=
      0) {
    return absl::ErrnoToStatus(errno, "statx");
  }
  DirectoryId id;
  id.device = makedev(object.stx_dev_major, object.stx_dev_minor);
  id.inode = object.stx_ino;
  id.mount = object.stx_mnt_id;
  return id;
}

absl::StatusOr<std::string> ResolvePlace(const std::string& path) {
  absl::StatusOr<UniqueFd> directory = OpenGuardedDirectory(path);
  if (!directory.ok()) return directory.status();
  char place[PATH_MAX];
  const ssize_t length =
      readlink(absl::StrCat("/proc/self/fd/", directory->get()).c_str(), place, sizeof(place));
  if (length <= 0 || length == sizeof(place)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has no path that can be opened"));
  }
  return std::string(place, static_cast<size_t>(length));
}

namespace {

absl::StatusOr<UniqueFd> OpenAs(const std::string& place, int flags) {
  open_how how = {};
  how.flags = static_cast<unsigned>(flags | O_DIRECTORY | O_CLOEXEC);
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  UniqueFd directory(
      static_cast<int>(syscall(SYS_openat2, AT_FDCWD, place.c_str(), &how, sizeof(how))));
  if (directory.valid()) return directory;
  switch (errno) {
    case ENOENT:
      return absl::NotFoundError("there is no folder here now");
    case ENOTDIR:
      return absl::NotFoundError("here is something else than a folder now");
    case ELOOP:
      return absl::NotFoundError("a part of the path is a symbolic link now");
    default:
      return absl::ErrnoToStatus(errno, "the folder can't be opened");
  }
}

}  // namespace

absl::StatusOr<UniqueFd> OpenPlace(const std::string& place) { return OpenAs(place, O_RDONLY); }

absl::StatusOr<DirectoryId> IdAt(const std::string& place) {
  const absl::StatusOr<UniqueFd> directory = OpenAs(place, O_PATH);
  if (!directory.ok()) return directory.status();
  return IdOf(directory->get());
}

absl::StatusOr<UniqueFd> OpenGuardedDirectory(const std::string& path) {
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.valid()) return directory;
  switch (errno) {
    case ENOTDIR:
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is not a directory: a guard is for directories"));
    case ENOENT:
      return absl::NotFoundError(absl::StrCat(path, " does not exist"));
    case EACCES:
      return absl::PermissionDeniedError(absl::StrCat(path, " cannot be read: permission denied"));
    default:
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  }
}

}  // namespace bulkhead
