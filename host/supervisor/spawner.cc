// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/spawner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "host/supervisor/oom_kills.h"
#include "ipc/abi/end.h"
#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

constexpr int kControlFd = 3;
constexpr int kGateFd = 4;  // until the child may run

// Of /proc/PID/task/TID/stat, behind the name; proc(5). PF_EXITING (include/linux/sched.h).
constexpr size_t kFlagsAt = 6;
constexpr uint32_t kExiting = 0x4;
constexpr int kTasksMax = 1000;  // that are looked at: more of them are asked about again

absl::Status Failed(const char* what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// RLIMIT_DATA and not RLIMIT_AS: a driver maps the files that it is asked about, however large.
bool LimitMemory(rlim_t bytes) {
  if (kSanitized) return true;
  rlimit limit = {};
  if (getrlimit(RLIMIT_DATA, &limit) != 0) return false;
  limit.rlim_cur = limit.rlim_max = std::min(limit.rlim_max, bytes);
  return setrlimit(RLIMIT_DATA, &limit) == 0;
}

// A service that is to outlive a want of memory has a score below 0; its hosts are what may go.
// System calls only.
void GiveUpOomScore() {
  const int file = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
  char first = 0;
  if (file >= 0 && pread(file, &first, 1, 0) == 1 && first == '-') {
    (void)!pwrite(file, "0", 1, 0);
  }
  if (file >= 0) close(file);
}

// The child's part, between fork and exec of a process that may have threads: system calls only.
[[noreturn]] void BecomeHost(const char* program, char* const* environment, pid_t parent, int gate,
                             int control, int null, int error_output, rlim_t memory_bytes_max) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  setsid();  // a Ctrl-C in our terminal is for us
  // EPERM without root. The system call: setgroups() would look for other threads.
  (void)syscall(SYS_setgroups, 0, nullptr);
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Descriptors below 10 are about to be replaced: keep the three that matter above them.
  const int high_control = fcntl(control, F_DUPFD, 10);
  const int high_error = fcntl(error_output, F_DUPFD, 10);
  const int high_gate = fcntl(gate, F_DUPFD, 10);
  if (high_control < 0 || high_error < 0 || high_gate < 0 || dup2(null, STDIN_FILENO) < 0 ||
      dup2(null, STDOUT_FILENO) < 0 || dup2(high_error, STDERR_FILENO) < 0 ||
      dup2(high_control, kControlFd) < 0 || dup2(high_gate, kGateFd) < 0) {
    _exit(127);
  }
  // Before it waits: it must not hold other hosts' sockets open meanwhile.
  close_range(kGateFd + 1, ~0u, 0);
  char go = 0;
  // The gate opens when we are known, and closes without a byte when we are not wanted.
  if (read(kGateFd, &go, 1) != 1) _exit(127);
  close(kGateFd);
  if (!LimitMemory(memory_bytes_max)) _exit(127);
  GiveUpOomScore();
  const char* const words[] = {program, "--control-fd", "3", nullptr};
  execve(program, const_cast<char* const*>(words), environment);
  constexpr char kText[] = "bulkhead: can't execute bulkhead-host\n";
  (void)!write(STDERR_FILENO, kText, sizeof(kText) - 1);
  _exit(127);
}

// `status` is waitpid's. A child that was killed counts as killed for want of memory if the kernel
// has killed any process for that, in its control group or on the machine, since the child was
// started: the status does not tell the two apart. A mistake makes the calls in its hands suspects.
ChildExit ExitOf(const ChildProcess& child, int status) {
  const int signal = WTERMSIG(status);
  ChildExit exit = {.end = static_cast<bh_end>(bh_end_of_exit(status)),
                    .text = WIFSIGNALED(status)
                                ? absl::StrCat("signal ", signal, " (", strsignal(signal), ")")
                                : absl::StrCat("exit code ", WEXITSTATUS(status))};
  if (WIFSIGNALED(status) && signal == SIGKILL && child.oom_kills.has_value() &&
      OomKills() > child.oom_kills) {
    exit.end = BH_END_STARVED;
    exit.text = "killed by the kernel for want of memory";
  }
  return exit;
}

}  // namespace

absl::StatusOr<ChildProcess> OpenChild(pid_t pid) {
  ChildProcess child;
  child.pid = pid;
  child.oom_kills = OomKills();
  child.pidfd.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!child.pidfd.valid()) return Failed("pidfd_open");
  // Without /proc it is seen dead a little later.
  child.stat.reset(open(absl::StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  return child;
}

std::vector<std::string> HostEnvironment(char* const* ours) {
  std::vector<std::string> kept;
  for (char* const* entry = ours; *entry != nullptr; ++entry) {
    const std::string name(*entry, std::strcspn(*entry, "="));
    const bool language = name == "LANG" || name == "TZ" || absl::StartsWith(name, "LC_");
    const bool sanitizer = kSanitized && absl::EndsWith(name, "SAN_OPTIONS");
    if (language || sanitizer) kept.emplace_back(*entry);
  }
  kept.emplace_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  // A host that runs out of memory crashes in one way or another: its allocator says why, as the
  // last thing on its standard error.
  kept.emplace_back("MIMALLOC_SHOW_ERRORS=1");
  return kept;
}

absl::StatusOr<ChildProcess> ProcessSpawner::Spawn(UniqueFd control, uint64_t memory_bytes_max) {
  if (access(program_.c_str(), X_OK) != 0) return Failed(program_.c_str());
  int gate[2], errors[2];
  // A socket, so that a byte for a child that has died raises no signal.
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gate) != 0) return Failed("socketpair");
  UniqueFd gate_out(gate[0]), gate_in(gate[1]);
  if (pipe2(errors, O_CLOEXEC) != 0) return Failed("pipe");
  UniqueFd errors_out(errors[0]), errors_in(errors[1]);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return Failed("/dev/null");
  std::vector<std::string> kept = HostEnvironment(environ);
  std::vector<char*> environment;
  for (std::string& entry : kept) environment.push_back(entry.data());
  environment.push_back(nullptr);
  const pid_t parent = getpid();
  // Signals of ours must not run handlers of ours in the child.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = fork();
  if (pid == 0) {
    close(gate_in.get());
    BecomeHost(program_.c_str(), environment.data(), parent, gate_out.get(), control.get(),
               null.get(), errors_in.get(), memory_bytes_max);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return Failed("fork");
  absl::StatusOr<ChildProcess> child = OpenChild(pid);
  if (!child.ok()) {
    gate_in.reset();  // the child ends without having run anything
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return child.status();
  }
  child->gate = std::move(gate_in);
  child->error_output = std::move(errors_out);
  fcntl(child->error_output.get(), F_SETFL, O_NONBLOCK);
  return child;
}

absl::Status ProcessSpawner::LetRun(ChildProcess& child) {
  const char go = 1;
  const UniqueFd gate = std::move(child.gate);
  if (send(gate.get(), &go, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) return Failed("gate");
  return absl::OkStatus();
}

ChildExit ProcessSpawner::Exit(const ChildProcess& child) {
  siginfo_t info = {};
  int code;
  do {
    code = waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED | WNOWAIT);
  } while (code != 0 && errno == EINTR);
  if (code != 0) return {.text = absl::StrCat("lost: ", std::strerror(errno))};
  return ExitOf(child, info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
                                                  : W_EXITCODE(0, info.si_status));
}

void ProcessSpawner::Reap(ChildProcess& child) {
  siginfo_t info = {};
  while (waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED) != 0 &&
         errno == EINTR) {
  }
}

// The last field of /proc/PID/stat, in the form of waitpid's status. The kernel sets it before the
// process's threads end; a process that may not trace the child reads 0 until it has given its
// memory back.
std::optional<ChildExit> ProcessSpawner::Ending(const ChildProcess& child) {
  std::array<char, 1024> text;
  const ssize_t bytes = pread(child.stat.get(), text.data(), text.size(), 0);
  if (bytes <= 0) return std::nullopt;
  const std::string_view stat(text.data(), static_cast<size_t>(bytes));
  const std::string_view last = stat.substr(stat.rfind(' ') + 1);
  int status = 0;
  const auto [end, error] = std::from_chars(last.begin(), last.end(), status);
  if (error != std::errc() || end == last.begin() || status == 0) return std::nullopt;
  if (WIFSIGNALED(status) || WIFEXITED(status)) return ExitOf(child, status);
  return std::nullopt;  // no status
}

// A thread has PF_EXITING from do_exit() on, which it enters only from the end of a call of the
// kernel's, or of an instruction of its own.
bool ProcessSpawner::HasLeft(const ChildProcess& child) {
  const std::string folder = absl::StrCat("/proc/", child.pid, "/task");  // ours until it is reaped
  std::error_code error;
  int tasks = 0;
  for (auto task = std::filesystem::directory_iterator(folder, error);
       !error && task != std::filesystem::directory_iterator(); task.increment(error)) {
    if (++tasks > kTasksMax) return false;
    const UniqueFd file(open((task->path() / "stat").c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid() && errno == ENOENT) continue;  // gone meanwhile
    std::array<char, 1024> text;
    const ssize_t bytes = file.valid() ? pread(file.get(), text.data(), text.size(), 0) : 0;
    if (bytes < 0 && errno == ESRCH) continue;  // likewise
    if (bytes <= 0) return false;
    const std::string stat(text.data(), static_cast<size_t>(bytes));
    const std::vector<std::string> fields =
        absl::StrSplit(stat.substr(stat.rfind(')') + 1), ' ', absl::SkipEmpty());
    uint32_t flags = 0;
    if (fields.size() < kFlagsAt + 1 || !absl::SimpleAtoi(fields[kFlagsAt], &flags)) return false;
    if ((flags & kExiting) == 0) return false;
  }
  return !error;
}

void ProcessSpawner::Kill(const ChildProcess& child) {
  syscall(SYS_pidfd_send_signal, child.pidfd.get(), SIGKILL, nullptr, 0);
}

// The first thread's lines: those of /proc/PID/status are its own. Sleeps that it can be woken from
// are S; D, T, t and the rest are not.
std::optional<uint64_t> ProcessSpawner::SleepCount(const ChildProcess& child) {
  const UniqueFd file(
      open(absl::StrCat("/proc/", child.pid, "/status").c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> text;
  const ssize_t bytes = file.valid() ? read(file.get(), text.data(), text.size()) : -1;
  if (bytes <= 0) return std::nullopt;
  const std::string_view status(text.data(), static_cast<size_t>(bytes));
  constexpr std::string_view kState = "\nState:\t", kSleeps = "\nvoluntary_ctxt_switches:\t";
  const size_t state = status.find(kState), sleeps = status.find(kSleeps);
  if (state == status.npos || sleeps == status.npos) return std::nullopt;
  if (!status.substr(state + kState.size()).starts_with('S')) return std::nullopt;
  const std::string_view number = status.substr(sleeps + kSleeps.size());
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(number.begin(), number.end(), count);
  if (error != std::errc() || end == number.end()) return std::nullopt;  // cut off
  return count;
}

}  // namespace bulkhead
