// SPDX-License-Identifier: Apache-2.0
#include "host/report/atomic_file.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
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

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  mode_t mode = 0644;
  std::string target = path;
  struct stat existing {};
  if (stat(path.c_str(), &existing) == 0) {
    if (S_ISDIR(existing.st_mode)) return Failure(EISDIR, "write", path);
    if (IsWrittenInPlace(path)) return WriteInPlace(path, existing, bytes);
    mode = existing.st_mode & 07777;
    std::error_code error;
    target = std::filesystem::canonical(path, error).string();
    if (error) return Failure(error.value(), "find", path);
  } else if (lstat(path.c_str(), &existing) == 0) {
    return Failure(ENOENT, "follow the symbolic link", path);
  }

  std::string temporary = target + ".XXXXXX";
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return Failure(errno, "create", target);
  absl::Status status = WriteAll(fd, bytes, target);
  absl::Status closed = FlushAndClose(fd, mode, target);
  if (status.ok()) status = closed;
  if (status.ok() && rename(temporary.c_str(), target.c_str()) != 0) {
    status = Failure(errno, "replace", target);
  }
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

}  // namespace bulkhead
