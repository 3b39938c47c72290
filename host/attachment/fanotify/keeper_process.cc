// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/keeper_process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

constexpr size_t kGiven = kKeeperDescriptorsEnd - kKeeperSocketFd;
// Its program, or a library of it, may be guarded itself: its exec then waits for a worker, and
// there is none.
constexpr uint64_t kExecWithinNs = kNanosecondsPerSecond;
constexpr int kErrorFd = kKeeperDescriptorsEnd;  // closed by exec; carries errno when that fails

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> Pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

// Between fork and exec of a process that may have threads: system calls only.
[[noreturn]] void RunChild(const char* program, const int (&sources)[kGiven], int null, int gate,
                           int error) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // until the keeper runs, which ends in order
  char open_gate;
  if (read(gate, &open_gate, 1) != 1) _exit(127);  // the parent died, or gave the start up
  setsid();
  if (getpriority(PRIO_PROCESS, 0) < 0) (void)setpriority(PRIO_PROCESS, 0, 0);
  int high[kGiven];
  for (size_t i = 0; i < kGiven; ++i) high[i] = fcntl(sources[i], F_DUPFD, 64);
  const int high_error = fcntl(error, F_DUPFD, 64);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  for (size_t i = 0; i < kGiven; ++i) dup2(high[i], kKeeperSocketFd + static_cast<int>(i));
  dup3(high_error, kErrorFd, O_CLOEXEC);
  syscall(SYS_close_range, kErrorFd + 1, ~0U, 0);
  char* const arguments[] = {const_cast<char*>(program), nullptr};
  execv(program, arguments);
  const int reason = errno;
  [[maybe_unused]] const ssize_t written = write(kErrorFd, &reason, sizeof(reason));
  _exit(127);
}

}  // namespace

absl::StatusOr<KeeperProcess> KeeperProcess::Start(
    const std::string& program, const Descriptors& descriptors,
    const std::function<absl::Status(pid_t)>& before_exec) {
  absl::StatusOr<std::pair<ControlSocket, ControlSocket>> control = ControlSocket::Pair();
  if (!control.ok()) return control.status();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "cannot create the keeper's socket");
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return absl::ErrnoToStatus(errno, "cannot open /dev/null");
  absl::StatusOr<std::pair<UniqueFd, UniqueFd>> gate = Pipe();
  if (!gate.ok()) return gate.status();
  absl::StatusOr<std::pair<UniqueFd, UniqueFd>> error = Pipe();
  if (!error.ok()) return error.status();

  // In the order of KeeperDescriptor.
  int sources[kGiven] = {theirs.get(), control->second.fd(), descriptors.journal,
                         descriptors.exclusions};
  std::copy(descriptors.groups.begin(), descriptors.groups.end(),
            sources + (kKeeperGroupsFd - kKeeperSocketFd));
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "cannot start the fanotify shim");
  if (pid == 0) {
    close(gate->second.get());
    RunChild(program.c_str(), sources, null.get(), gate->first.get(), error->second.get());
  }
  KeeperProcess process;
  process.pid_ = pid;
  process.pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  process.control_ = std::move(control->first);
  process.orders_ = std::move(ours);
  // The child has them; here they must not stay open: their end reports the child's death.
  theirs.reset();
  control->second.Close();
  error->second.reset();

  absl::Status status = before_exec(pid);
  if (status.ok() && !process.pidfd_.valid()) status = absl::ErrnoToStatus(errno, "pidfd_open");
  if (!status.ok()) {
    process.Reap(0);
    return status;
  }
  const char open_gate = 1;
  [[maybe_unused]] const ssize_t opened = write(gate->second.get(), &open_gate, 1);
  if (!PollUntil(error->first.get(), POLLIN, MonotonicAfterNs(kExecWithinNs))) {
    process.Reap(0);
    return absl::DeadlineExceededError(absl::StrCat(
        "the fanotify shim ", program, " is not executed within a second: is it guarded itself?"));
  }
  int reason = 0;
  ssize_t bytes;
  do {
    bytes = read(error->first.get(), &reason, sizeof(reason));
  } while (bytes < 0 && errno == EINTR);
  if (bytes == sizeof(reason)) {
    process.Reap(0);
    return absl::ErrnoToStatus(
        reason, absl::StrCat("cannot execute the fanotify shim ", program, ": is it installed?"));
  }
  return process;
}

KeeperProcess KeeperProcess::Adopt(pid_t pid, UniqueFd pidfd) {
  KeeperProcess process;
  process.pid_ = pid;
  process.pidfd_ = std::move(pidfd);
  return process;
}

bool KeeperProcess::Reap(uint64_t until_ns) {
  if (pid_ < 0) return true;
  if (!pidfd_.valid()) {  // of a start that failed for want of one: our child
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return false;
  }
  const bool ended = PollUntil(pidfd_.get(), POLLIN, until_ns);
  if (!ended) {
    syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    PollUntil(pidfd_.get(), POLLIN, kForeverNs);
  }
  // ECHILD: another process waits for one that was adopted.
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), nullptr, WEXITED) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  pidfd_.reset();
  return ended;
}

}  // namespace bulkhead
