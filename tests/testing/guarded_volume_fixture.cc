// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/guarded_volume_fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace bulkhead {

absl::StatusOr<GuardedVolume> GuardedVolume::Mount() {
  if (unshare(CLONE_NEWNS) != 0) return absl::ErrnoToStatus(errno, "unshare(CLONE_NEWNS)");
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make mounts private");
  }
  const char* folder = std::getenv("TMPDIR");
  std::string path = absl::StrCat(folder != nullptr ? folder : "/tmp", "/bulkhead-guarded-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) return absl::ErrnoToStatus(errno, "mkdtemp");
  if (mount("tmpfs", path.c_str(), "tmpfs", 0, "size=64m") != 0) {
    const int reason = errno;
    rmdir(path.c_str());
    return absl::ErrnoToStatus(reason, "cannot mount a tmpfs");
  }
  return GuardedVolume(std::move(path));
}

GuardedVolume::GuardedVolume(GuardedVolume&& other) noexcept
    : path_(std::exchange(other.path_, std::string())) {}

GuardedVolume::~GuardedVolume() {
  if (path_.empty()) return;
  umount2(path_.c_str(), MNT_DETACH);
  rmdir(path_.c_str());
}

std::string GuardedVolume::File(const std::string& name, const std::string& content,
                                bool executable) {
  const std::filesystem::path path = std::filesystem::path(path_) / name;
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
  if (executable) chmod(path.c_str(), 0755);
  return path;
}

}  // namespace bulkhead
