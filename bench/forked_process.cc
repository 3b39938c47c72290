// SPDX-License-Identifier: Apache-2.0
#include "bench/forked_process.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

// /proc/PID/stat has the parent behind the name, which may hold anything, and the state.
pid_t ParentOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  std::getline(file, line);
  const size_t name_ends = line.rfind(") ");
  // ") S 123 …"
  if (name_ends == std::string::npos || line.size() < name_ends + 5) return -1;
  const size_t begin = name_ends + 4;
  int parent = -1;
  return absl::SimpleAtoi(line.substr(begin, line.find(' ', begin) - begin), &parent) ? parent : -1;
}

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    int pid = -1;
    if (absl::SimpleAtoi(entry.path().filename().string(), &pid) && ParentOf(pid) == parent) {
      children.push_back(pid);
    }
  }
  return children;
}

// Calls `each_turn` while there are children. False: some child has not ended by then.
bool ReapAllBy(
    uint64_t until_ns, const std::function<void()>& each_turn = [] {}) {
  for (;;) {
    each_turn();
    const pid_t reaped = waitpid(-1, nullptr, WNOHANG);
    if (reaped < 0 && errno == ECHILD) return true;
    if (reaped > 0) continue;
    if (MonotonicNowNs() > until_ns) return false;
    sched_yield();
  }
}

}  // namespace

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
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (pidfd.valid()) return ForkedProcess(pid, std::move(pidfd));
  const absl::Status status = absl::ErrnoToStatus(errno, "pidfd_open");
  kill(pid, SIGKILL);
  YieldUntil("the end of a killed process", [&] { return waitpid(pid, nullptr, WNOHANG) == pid; });
  return status;
}

void ForkedProcess::Kill() const {
  if (pid_ > 0) kill(pid_, SIGKILL);
}

void ForkedProcess::End() {
  if (pid_ <= 0) return;
  Kill();
  constexpr const char* kEnd = "the end of a killed process";
  if (!AwaitReadable(kEnd, pidfd_.get()).ok() || !TakeEnd()) WaitFailed(kEnd);
}

absl::Status ForkedProcess::Join(const char* what, uint64_t bound_ns) {
  if (pid_ <= 0) return absl::FailedPreconditionError(absl::StrCat(what, " has ended before"));
  const pid_t pid = pid_;
  if (absl::Status ended = AwaitReadable(what, pidfd_.get(), bound_ns); !ended.ok()) {
    End();
    if (!absl::IsDeadlineExceeded(ended)) return ended;
    return absl::DeadlineExceededError(
        absl::StrCat(what, ", process ", pid, ", did not end within ",
                     static_cast<double>(bound_ns) / 1e9, " s and was killed"));
  }
  const std::optional<int> status = TakeEnd();
  if (!status) WaitFailed(what);
  if (*status == 0) return absl::OkStatus();
  return absl::AbortedError(WIFSIGNALED(*status)
                                ? absl::StrCat(what, " ended by signal ", WTERMSIG(*status))
                                : absl::StrCat(what, " ended with code ", WEXITSTATUS(*status)));
}

std::optional<int> ForkedProcess::TakeEnd() {
  int status = 0;
  if (pid_ <= 0 || waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  pidfd_.reset();
  return status;
}

absl::Status ReapChildren(const char* what, uint64_t bound_ns) {
  if (ReapAllBy(MonotonicAfterNs(bound_ns))) return absl::OkStatus();
  // The children of one that is killed become this process's.
  std::set<pid_t> killed;
  const auto kill_all = [&killed] {
    for (const pid_t child : ChildrenOf(getpid())) {
      kill(child, SIGKILL);
      killed.insert(child);
    }
  };
  if (!ReapAllBy(MonotonicAfterNs(kWaitBoundNs), kill_all))
    WaitFailed("the end of a killed process");
  return absl::DeadlineExceededError(
      absl::StrCat(what, " did not come within ", static_cast<double>(bound_ns) / 1e9,
                   " s; these were killed: ", absl::StrJoin(killed, " ")));
}

}  // namespace bulkhead
