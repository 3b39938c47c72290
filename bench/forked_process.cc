// SPDX-License-Identifier: Apache-2.0
#include "bench/forked_process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace bulkhead {

absl::StatusOr<ForkedProcess> ForkedProcess::Start(const std::function<void()>& run) {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    run();
    _exit(0);
  }
  return ForkedProcess(pid);
}

void ForkedProcess::Kill() const { kill(pid_, SIGKILL); }

void ForkedProcess::End() {
  if (pid_ <= 0) return;
  Kill();
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

}  // namespace bulkhead
