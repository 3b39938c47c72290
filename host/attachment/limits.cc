// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/limits.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr uid_t kNobody = 65534;
constexpr int kWithinMs = 1000;

bool Write(const char* path, const char* text) {
  const int file = open(path, O_WRONLY | O_CLOEXEC);
  const size_t bytes = std::strlen(text);
  return file >= 0 && write(file, text, bytes) == static_cast<ssize_t>(bytes);
}

// In a child of a process that may have threads: system calls only. The namespaces, and with them
// all that is mounted, go with the child.
bool MountOverlay() {
  // A user's files in /proc are the user's only while the process may be dumped.
  if (geteuid() == 0 && (syscall(SYS_setgroups, 0, nullptr) != 0 ||
                         syscall(SYS_setresgid, kNobody, kNobody, kNobody) != 0 ||
                         syscall(SYS_setresuid, kNobody, kNobody, kNobody) != 0)) {
    return false;
  }
  if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0) return false;
  const bool is_nobody = geteuid() == kNobody;
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  // The maps below are for this user: no other process can write them.
  // Both maps: in a file system of this namespace, only users and groups of it can make files.
  return is_nobody && Write("/proc/self/uid_map", "0 65534 1\n") &&
         Write("/proc/self/setgroups", "deny\n") && Write("/proc/self/gid_map", "0 65534 1\n") &&
         mount("none", "/tmp", "tmpfs", 0, "size=64k") == 0 && mkdir("/tmp/lower", 0700) == 0 &&
         mkdir("/tmp/below", 0700) == 0 && mkdir("/tmp/over", 0700) == 0 &&
         mount("overlay", "/tmp/over", "overlay", 0, "lowerdir=/tmp/lower:/tmp/below") == 0;
}

}  // namespace

bool UsersCanMountOverlays() {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // our handlers must not run in the child
  const pid_t child = fork();
  if (child == 0) {
    // What it may hold open of ours must not outlive us with it.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(MountOverlay() ? 0 : 1);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return true;  // not known: the worse
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd ended = {.fd = process.get(), .events = POLLIN, .revents = 0};
  const uint64_t until_ns = MonotonicAfterNs(kWithinMs * kNanosecondsPerMillisecond);
  while (process.valid() && poll(&ended, 1, kWithinMs) < 0 && MonotonicNowNs() < until_ns) {
  }
  if (ended.revents == 0) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return !WIFEXITED(status) || WEXITSTATUS(status) == 0;
}

void Limits::LookAgain() {
  const uint64_t now_ns = now_ns_();
  std::set<std::string> accepted;
  {
    const MutexLock lock(mutex_);
    if (now_ns < again_ns_) return;
    again_ns_ = now_ns + kAgainNs;
    accepted = accepted_;
  }
  std::vector<const AttachmentLimit*> applying;
  for (const AttachmentLimit& limit : limits_) {
    if (accepted.count(limit.name) == 0 && limit.applies()) applying.push_back(&limit);
  }
  const MutexLock lock(mutex_);
  applying_ = std::move(applying);
}

void Limits::Accept(std::set<std::string> accepted) {
  const MutexLock lock(mutex_);
  accepted_ = std::move(accepted);
  again_ns_ = 0;
}

void Limits::Degrade(GuardProtection& guard, MarkKind mark) const {
  if (guard.level == BH_PROTECTION_NONE) return;
  const MutexLock lock(mutex_);
  for (const AttachmentLimit* limit : applying_) {
    if (accepted_.count(limit->name) != 0) continue;  // since it was tried
    if (limit->of_marks.has_value() && mark != *limit->of_marks) continue;
    guard.level = BH_PROTECTION_DEGRADED;
    guard.reasons.push_back(absl::StrCat(limit->text, ": ", limit->remedy,
                                         ", or accept it (--accept ", limit->name, ")"));
  }
}

}  // namespace bulkhead
