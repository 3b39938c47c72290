// SPDX-License-Identifier: Apache-2.0
#include "host/service/state_folder.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "host/supervisor/instance.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "instance-";

// Null: errno says why; EWOULDBLOCK: another process has it.
UniqueFd Lock(const std::string& folder) {
  UniqueFd lock(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!lock.valid() || flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  const int why = errno;
  lock.reset();
  errno = why;
  return lock;
}

bool IsAt(const UniqueFd& folder, const std::string& path) {
  struct stat held = {}, there = {};
  return fstat(folder.get(), &held) == 0 && lstat(path.c_str(), &there) == 0 &&
         held.st_dev == there.st_dev && held.st_ino == there.st_ino;
}

// Hosts are users of their own and read what is theirs below it, by its name.
absl::Status LetThrough(const std::string& folder) {
  if (geteuid() != 0 || chmod(folder.c_str(), 0711) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, folder);
}

}  // namespace

std::vector<std::string> StateBases() {
  if (geteuid() == 0) return {"/var/lib/bulkhead", RunFolder()};
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  std::vector<std::string> bases;
  if (const std::string state = variable("XDG_STATE_HOME"); !state.empty()) {
    bases.push_back(absl::StrCat(state, "/bulkhead"));
  } else if (const std::string home = variable("HOME"); !home.empty()) {
    bases.push_back(absl::StrCat(home, "/.local/state/bulkhead"));
  }
  bases.push_back(RunFolder());
  return bases;
}

int RemoveFoldersOfTheDead(const std::string& base) {
  int removed = 0;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(base, error)) {
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    // Held while it is removed, so that its maker, if it has not locked it yet, makes another.
    const UniqueFd lock = Lock(entry.path().string());
    std::error_code ignored;
    if (lock.valid() && fs::remove_all(entry.path(), ignored) > 0) ++removed;
  }
  return removed;
}

absl::StatusOr<StateFolder> StateFolder::CreateIn(const std::string& base) {
  std::error_code error;
  fs::create_directories(fs::path(base).parent_path(), error);
  if (absl::Status status = MakePrivateFolder(base); !status.ok()) return status;
  if (absl::Status status = LetThrough(base); !status.ok()) return status;
  RemoveFoldersOfTheDead(base);
  for (;;) {
    std::string path = absl::StrCat(base, "/", kPrefix, getpid(), "-XXXXXX");
    if (mkdtemp(path.data()) == nullptr) return absl::ErrnoToStatus(errno, path);
    UniqueFd lock = Lock(path);
    // Another instance that starts may have taken it for one of the dead before it was locked.
    if (lock.valid() && IsAt(lock, path)) {
      if (absl::Status status = LetThrough(path); !status.ok()) return status;
      return StateFolder(std::move(path), std::move(lock));
    }
    if (lock.valid() || errno == EWOULDBLOCK || errno == ENOENT) continue;
    absl::Status status = absl::ErrnoToStatus(errno, absl::StrCat("can't lock ", path));
    fs::remove(path, error);
    return status;  // NFS locks no folder
  }
}

absl::StatusOr<StateFolder> StateFolder::Create() {
  absl::Status first;
  for (const std::string& base : StateBases()) {
    absl::StatusOr<StateFolder> folder = CreateIn(base);
    if (folder.ok()) return folder;
    if (first.ok()) first = folder.status();
  }
  return first;
}

absl::StatusOr<StateFolder> StateFolder::Adopt(std::string path, UniqueFd lock) {
  if (IsAt(lock, path)) return StateFolder(std::move(path), std::move(lock));
  return absl::NotFoundError(absl::StrCat(path, ", which a service before has left, is gone"));
}

StateFolder::~StateFolder() {
  std::error_code error;
  if (!path_.empty()) fs::remove_all(path_, error);
}

}  // namespace bulkhead
