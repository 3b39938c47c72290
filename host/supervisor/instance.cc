// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/instance.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ipc/control_socket.h"

namespace bulkhead {
namespace {

constexpr char kGroupFolder[] = "/run/bulkhead-operators";

std::vector<std::string> SocketsIn(const std::string& folder) {
  std::vector<std::string> sockets;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".sock") sockets.push_back(entry.path().string());
  }
  return sockets;
}

// The socket of an instance that was killed stays behind. Its process is gone and nothing listens:
// one that starts right now is there, and may not listen yet.
void RemoveSocketsOfTheDead() {
  std::vector<std::string> paths = InstanceSockets();
  if (geteuid() == 0) {
    const std::vector<std::string> more = SocketsIn(kGroupFolder);
    paths.insert(paths.end(), more.begin(), more.end());
  }
  for (const std::string& path : paths) {
    int pid = 0;
    if (!absl::SimpleAtoi(std::filesystem::path(path).stem().string(), &pid) || pid <= 0) continue;
    if (kill(pid, 0) == 0 || errno != ESRCH) continue;
    if (absl::IsNotFound(ControlSocket::Connect(path).status())) unlink(path.c_str());
  }
}

absl::StatusOr<std::string> LockOf(const std::string& folder) {
  struct stat object = {};
  if (stat(folder.c_str(), &object) != 0) return absl::ErrnoToStatus(errno, folder);
  if (!S_ISDIR(object.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(folder, " is no folder"));
  }
  return absl::StrCat(RunFolder(), "/lock-", object.st_dev, "-", object.st_ino);
}

// What a lock's file has: the number of the process that holds it, and NULs.
using HolderText = std::array<char, 16>;

absl::StatusOr<UniqueFd> TakeLock(const std::string& folder, const std::string& path) {
  UniqueFd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) return absl::ErrnoToStatus(errno, path);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    HolderText holder = {};
    (void)!pread(lock.get(), holder.data(), holder.size() - 1, 0);
    return absl::AlreadyExistsError(
        absl::StrCat(folder, " is guarded already, by process ", holder.data()));
  }
  // Always as many bytes: there is nothing to cut off, for which a file system that is mounted with
  // "discard" would wait for the drive.
  HolderText holder = {};
  absl::StrCat(getpid()).copy(holder.data(), holder.size() - 1);
  if (pwrite(lock.get(), holder.data(), holder.size(), 0) != static_cast<ssize_t>(holder.size())) {
    return absl::ErrnoToStatus(errno, path);
  }
  return lock;
}

}  // namespace

std::string RunFolder() {
  if (geteuid() == 0) return "/run/bulkhead";
  if (const char* folder = std::getenv("XDG_RUNTIME_DIR"); folder != nullptr && *folder != '\0') {
    return absl::StrCat(folder, "/bulkhead");
  }
  return absl::StrCat("/tmp/bulkhead-", geteuid());
}

absl::Status MakePrivateFolder(const std::string& folder) {
  struct stat status = {};
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return absl::ErrnoToStatus(errno, folder);
  if (lstat(folder.c_str(), &status) != 0) return absl::ErrnoToStatus(errno, folder);
  if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 022) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat(folder, " is not a folder of this user's alone; remove it"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Instance> Instance::Claim(const std::vector<std::string>& folders) {
  Instance instance;
  if (absl::Status status = MakePrivateFolder(RunFolder()); !status.ok()) return status;
  RemoveSocketsOfTheDead();
  if (absl::Status status = instance.Add(folders); !status.ok()) return status;
  return instance;
}

absl::Status Instance::Add(const std::vector<std::string>& folders) {
  Instance added;
  std::set<std::string> paths;
  for (const std::string& folder : folders) {
    const absl::StatusOr<std::string> path = LockOf(folder);
    if (!path.ok()) return path.status();
    if (!paths.insert(*path).second) {
      return absl::AlreadyExistsError(
          absl::StrCat(folder, " is the folder of another guard, under another name"));
    }
    if (locks_.count(*path) != 0) continue;
    absl::StatusOr<UniqueFd> lock = TakeLock(folder, *path);
    if (!lock.ok()) return lock.status();
    added.locks_.emplace(*path, *std::move(lock));
  }
  locks_.merge(added.locks_);
  return absl::OkStatus();
}

void Instance::KeepOnly(const std::vector<std::string>& folders) {
  std::set<std::string> paths;
  for (const std::string& folder : folders) {
    if (const absl::StatusOr<std::string> path = LockOf(folder); path.ok()) paths.insert(*path);
  }
  for (auto lock = locks_.begin(); lock != locks_.end();) {
    const auto next = std::next(lock);
    if (paths.count(lock->first) == 0) {
      unlink(lock->first.c_str());
      locks_.erase(lock);
    }
    lock = next;
  }
}

Instance::~Instance() {
  for (const auto& [path, lock] : locks_) unlink(path.c_str());
}

std::string InstanceSocket(pid_t pid) { return absl::StrCat(RunFolder(), "/", pid, ".sock"); }

std::vector<std::string> InstanceSockets() { return SocketsIn(RunFolder()); }

std::string GroupSocket(pid_t pid) { return absl::StrCat(kGroupFolder, "/", pid, ".sock"); }

absl::Status MakeGroupFolder() {
  if (geteuid() != 0) {
    return absl::FailedPreconditionError(
        "operators: only a service of root's can admit groups; leave [operators] out");
  }
  // Closed while it is checked. No other user can have made it: /run is root's.
  if (absl::Status status = MakePrivateFolder(kGroupFolder); !status.ok()) return status;
  if (chmod(kGroupFolder, 0755) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, kGroupFolder);
}

std::vector<std::string> SocketsToAsk(pid_t pid) {
  std::vector<std::string> sockets = InstanceSockets();
  // Root's own are the first folder's.
  if (geteuid() != 0) {
    const std::vector<std::string> more = SocketsIn(kGroupFolder);
    sockets.insert(sockets.end(), more.begin(), more.end());
  }
  if (pid == 0) return sockets;
  std::vector<std::string> of_pid;
  for (const std::string& path : sockets) {
    if (std::filesystem::path(path).stem().string() == absl::StrCat(pid)) of_pid.push_back(path);
  }
  return of_pid;
}

}  // namespace bulkhead
