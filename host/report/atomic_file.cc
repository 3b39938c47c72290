// SPDX-License-Identifier: Apache-2.0
#include "host/report/atomic_file.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace bulkhead {
namespace {

absl::Status Failure(int error, std::string_view doing, const std::string& path) {
  std::string what = absl::StrCat("cannot ", std::string(doing), " ", path);
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ": the disk is full; free some space or choose another path"));
  }
  return absl::ErrnoToStatus(error, what);
}

absl::Status WriteAll(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return Failure(errno, "write", path);
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

// The standard descriptor of this process that is open on this file; -1: none. /dev/stdout may be a
// regular file, to which this process prints before and after: it is neither replaced nor
// overwritten from its beginning.
int StandardDescriptor(const struct stat& file) {
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat open_file {};
    if (fstat(fd, &open_file) == 0 && open_file.st_dev == file.st_dev &&
        open_file.st_ino == file.st_ino) {
      return fd;
    }
  }
  return -1;
}

absl::Status WriteInPlace(const std::string& path, const struct stat& file,
                          std::string_view bytes) {
  if (const int standard = StandardDescriptor(file); standard >= 0) {
    std::fflush(nullptr);
    return WriteAll(standard, bytes, path);
  }
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return Failure(errno, "open", path);
  absl::Status status = WriteAll(fd, bytes, path);
  if (close(fd) != 0 && status.ok()) status = Failure(errno, "write", path);
  return status;
}

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// A new file beside the target, for this user alone.
int CreateBeside(int folder, const std::string& name, std::string* temporary) {
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    uint64_t chance = 0;
    if (getrandom(&chance, sizeof(chance), 0) != sizeof(chance)) return -1;
    *temporary = absl::StrCat(name, ".", absl::Hex(chance, absl::kZeroPad16));
    const int fd = openat(folder, temporary->c_str(),
                          O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

absl::Status FlushAndClose(int fd, mode_t mode, const std::string& path) {
  absl::Status status;
  if (fchmod(fd, mode) != 0) status = Failure(errno, "set the mode of", path);
  // A full disk may be reported only here: delayed allocation, network file systems.
  if (status.ok() && fsync(fd) != 0) status = Failure(errno, "write", path);
  if (close(fd) != 0 && status.ok()) status = Failure(errno, "write", path);
  return status;
}

}  // namespace

bool IsWrittenInPlace(const std::string& path) {
  struct stat file {};
  return stat(path.c_str(), &file) == 0 && !S_ISDIR(file.st_mode) &&
         (!S_ISREG(file.st_mode) || StandardDescriptor(file) >= 0);
}

std::string TrapAt(const std::string& path) {
  struct stat file {
  }, folder{};
  if (lstat(path.c_str(), &file) != 0 || file.st_uid == geteuid()) return "";
  const bool is_link = S_ISLNK(file.st_mode);
  if (is_link && file.st_uid == 0) return "";
  const bool shared =
      stat(FolderOf(path).c_str(), &folder) != 0 || (folder.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  if (!is_link && !shared) return "";
  return absl::StrCat(
      path, is_link ? " is a symbolic link of user " : " is there already, of user ", file.st_uid,
      is_link ? "" : ", in a folder that others may write to", "; name another file, or remove it");
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  if (const std::string trap = TrapAt(path); !trap.empty()) {
    return absl::PermissionDeniedError(trap);
  }
  mode_t mode = 0644;
  std::string target = path;
  struct stat existing {};
  if (stat(path.c_str(), &existing) == 0) {
    if (S_ISDIR(existing.st_mode)) return Failure(EISDIR, "write", path);
    if (IsWrittenInPlace(path)) return WriteInPlace(path, existing, bytes);
    if (existing.st_uid == geteuid()) mode = existing.st_mode & 0666;
    std::error_code error;
    target = std::filesystem::canonical(path, error).string();
    if (error) return Failure(error.value(), "find", path);
  } else if (lstat(path.c_str(), &existing) == 0) {
    return Failure(ENOENT, "follow the symbolic link", path);
  }

  // From here on in one folder, whatever its path leads to later.
  const int folder = open(FolderOf(target).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return Failure(errno, "open the folder of", target);
  const std::string name = std::filesystem::path(target).filename().string();
  std::string temporary;
  const int fd = CreateBeside(folder, name, &temporary);
  if (fd < 0) {
    const int error = errno;
    close(folder);
    return Failure(error, "create", target);
  }
  absl::Status status = WriteAll(fd, bytes, target);
  absl::Status closed = FlushAndClose(fd, mode, target);
  if (status.ok()) status = closed;
  if (status.ok() && renameat(folder, temporary.c_str(), folder, name.c_str()) != 0) {
    status = Failure(errno, "replace", target);
  }
  if (!status.ok()) unlinkat(folder, temporary.c_str(), 0);
  close(folder);
  return status;
}

}  // namespace bulkhead
