// SPDX-License-Identifier: Apache-2.0
#include "host/report/atomic_file.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

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

absl::Status WriteInPlace(const std::string& path, std::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return Failure(errno, "open", path);
  absl::Status status = WriteAll(fd, bytes, path);
  if (close(fd) != 0 && status.ok()) status = Failure(errno, "write", path);
  return status;
}

absl::Status FlushAndClose(int fd, mode_t mode, const std::string& path) {
  absl::Status status;
  if (fchmod(fd, mode) != 0) status = Failure(errno, "set the mode of", path);
  // A full disk may show only here: delayed allocation, network file systems.
  if (status.ok() && fsync(fd) != 0) status = Failure(errno, "write", path);
  if (close(fd) != 0 && status.ok()) status = Failure(errno, "write", path);
  return status;
}

}  // namespace

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  mode_t mode = 0644;
  struct stat existing {};
  if (stat(path.c_str(), &existing) == 0) {
    if (S_ISDIR(existing.st_mode)) return Failure(EISDIR, "write", path);
    if (!S_ISREG(existing.st_mode)) return WriteInPlace(path, bytes);
    mode = existing.st_mode & 07777;
  }

  std::string temporary = path + ".XXXXXX";
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return Failure(errno, "create", path);
  absl::Status status = WriteAll(fd, bytes, path);
  absl::Status closed = FlushAndClose(fd, mode, path);
  if (status.ok()) status = closed;
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = Failure(errno, "replace", path);
  }
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

}  // namespace bulkhead
