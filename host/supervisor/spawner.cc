// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/spawner.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
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

// Without root a child gets its process id namespace together with a user namespace, which has its
// own id only. Rights there end with exec but for those that are ambient: what the host needs to
// enter its other namespaces, and gives up then.
struct UserNamespace {
  std::string uid_map, gid_map;
};

UserNamespace OwnIdsOnly() {
  return {.uid_map = absl::StrCat(geteuid(), " ", geteuid(), " 1"),
          .gid_map = absl::StrCat(getegid(), " ", getegid(), " 1")};
}

bool WriteFile(const char* path, const char* text, size_t bytes) {
  const int file = open(path, O_WRONLY | O_CLOEXEC);
  const bool written = file >= 0 && write(file, text, bytes) == static_cast<ssize_t>(bytes);
  if (file >= 0) close(file);
  return written;
}

constexpr unsigned kAmbient[] = {CAP_SYS_ADMIN, CAP_SETPCAP, CAP_SYS_CHROOT};

// System calls only. What fails here, the host misses and reports.
void EnterUserNamespace(const UserNamespace& users) {
  prctl(PR_SET_DUMPABLE, 1);  // else the maps are root's; exec would do it, too
  WriteFile("/proc/self/setgroups", "deny", 4);
  WriteFile("/proc/self/uid_map", users.uid_map.data(), users.uid_map.size());
  WriteFile("/proc/self/gid_map", users.gid_map.data(), users.gid_map.size());
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct sets[2] = {};
  if (syscall(SYS_capget, &header, sets) != 0) return;
  for (const unsigned capability : kAmbient) sets[0].inheritable |= 1u << capability;
  if (syscall(SYS_capset, &header, sets) != 0) return;
  for (const unsigned capability : kAmbient) {
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
  }
}

struct Birth {
  const char* program;
  char* const* environment;
  pid_t parent;
  int gate, control, null, error_output;
  rlim_t memory_bytes_max;
  UserNamespace users;
  const HostCgroup& group;
  bool dies_with_parent;
};

// The child's part, between fork and exec of a process that may have threads: system calls only.
// `own_users`: it is in a user namespace of its own. `in_group`: in its control group already.
[[noreturn]] void BecomeHost(const Birth& birth, bool own_users, bool in_group) {
  if (birth.dies_with_parent) prctl(PR_SET_PDEATHSIG, SIGKILL);
  // In a namespace of its own its parent has no number: there the gate tells, which closes with it.
  const pid_t parent = getppid();
  if (parent != birth.parent && parent != 0) _exit(127);
  // Before it has a namespace's ids. What fails here, the host misses and reports.
  for (const UniqueFd& door : birth.group.doors()) {
    if (!in_group) (void)!write(door.get(), "0", 1);
  }
  if (own_users) EnterUserNamespace(birth.users);
  setsid();  // a Ctrl-C in our terminal is for us
  // EPERM without root. The system call: setgroups() would look for other threads.
  (void)syscall(SYS_setgroups, 0, nullptr);
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Descriptors below 10 are about to be replaced: keep the three that matter above them.
  const int high_control = fcntl(birth.control, F_DUPFD, 10);
  const int high_error = fcntl(birth.error_output, F_DUPFD, 10);
  const int high_gate = fcntl(birth.gate, F_DUPFD, 10);
  if (high_control < 0 || high_error < 0 || high_gate < 0 || dup2(birth.null, STDIN_FILENO) < 0 ||
      dup2(birth.null, STDOUT_FILENO) < 0 || dup2(high_error, STDERR_FILENO) < 0 ||
      dup2(high_control, kControlFd) < 0 || dup2(high_gate, kGateFd) < 0) {
    _exit(127);
  }
  // Before it waits: it must not hold other hosts' sockets open meanwhile.
  close_range(kGateFd + 1, ~0u, 0);
  char go = 0;
  // The gate opens when we are known, and closes without a byte when we are not wanted.
  if (read(kGateFd, &go, 1) != 1) _exit(127);
  close(kGateFd);
  if (!LimitMemory(birth.memory_bytes_max)) _exit(127);
  GiveUpOomScore();
  if (getpriority(PRIO_PROCESS, 0) < 0) (void)setpriority(PRIO_PROCESS, 0, 0);
  const char* const words[] = {birth.program, "--control-fd", "3", nullptr};
  execve(birth.program, const_cast<char* const*>(words), birth.environment);
  constexpr char kText[] = "bulkhead: can't execute bulkhead-host\n";
  (void)!write(STDERR_FILENO, kText, sizeof(kText) - 1);
  _exit(127);
}

// Returns in the child, too, with 0, as fork() does.
pid_t CloneWith(uint64_t flags, const UniqueFd& group) {
  clone_args arguments = {};
  arguments.flags = flags;
  if (group.valid()) arguments.cgroup = static_cast<uint32_t>(group.get());
  arguments.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
  if (pid >= 0 || errno != ENOSYS || group.valid()) return static_cast<pid_t>(pid);
  return static_cast<pid_t>(
      syscall(SYS_clone, static_cast<unsigned long>(flags) | SIGCHLD, nullptr, 0, 0, 0));
}

// `lack`: why the child is in our process id namespace.
pid_t ForkHost(const Birth& birth, std::string* lack) {
  if (kSanitized) {
    *lack = "a build with sanitizers goes without";
  } else {
    const bool own_users = geteuid() != 0;
    const uint64_t flags = CLONE_NEWPID | (own_users ? CLONE_NEWUSER : 0);
    // Born in its group it saves the milliseconds that the kernel takes to move it there.
    if (birth.group.folder().valid()) {
      const pid_t pid = CloneWith(flags | CLONE_INTO_CGROUP, birth.group.folder());
      if (pid == 0) BecomeHost(birth, own_users, /*in_group=*/true);
      if (pid > 0) return pid;
    }
    const pid_t pid = CloneWith(flags, UniqueFd());
    if (pid == 0) BecomeHost(birth, own_users, /*in_group=*/false);
    if (pid > 0) return pid;
    *lack = std::strerror(errno);
  }
  const pid_t pid = fork();
  if (pid == 0) BecomeHost(birth, /*own_users=*/false, /*in_group=*/false);
  return pid;
}

// `status` is waitpid's. A child that was killed counts as killed for want of memory if the kernel
// has killed any process for that in its control group or, where it has none, on the machine, since
// the child was started: the status does not tell the two apart. A mistake makes the calls in its
// hands suspects.
ChildExit ExitOf(const ChildProcess& child, int status) {
  const int signal = bh_signal_of_exit(status);
  ChildExit exit = {.end = static_cast<bh_end>(bh_end_of_exit(status)),
                    .text = signal != 0
                                ? absl::StrCat("signal ", signal, " (", strsignal(signal), ")")
                                : absl::StrCat("exit code ", WEXITSTATUS(status))};
  if (!WIFSIGNALED(status) || signal != SIGKILL) return exit;
  // Its own group counts exactly.
  const std::optional<uint64_t> of_group = child.group.OomKills();
  if (of_group.has_value() ? *of_group != 0
                           : child.oom_kills.has_value() && OomKills() > child.oom_kills) {
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

ChildProcess OpenLeftChild(pid_t pid, UniqueFd pidfd) {
  ChildProcess child;
  child.pid = pid;
  child.oom_kills = OomKills();
  child.stat.reset(open(absl::StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  child.pidfd = std::move(pidfd);
  // By now its number may be another's.
  pollfd ended = {child.pidfd.get(), POLLIN, 0};
  if (poll(&ended, 1, 0) != 0) child.stat.reset();
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

absl::StatusOr<ChildProcess> ProcessSpawner::Spawn(UniqueFd control, const HostLimits& limits) {
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
  absl::StatusOr<HostCgroup> group = groups_ != nullptr
                                         ? groups_->Make(limits)
                                         : absl::UnavailableError("its supervisor makes none");
  std::string group_lacks(group.ok() ? "" : group.status().message());
  if (!group.ok()) group = HostCgroup();
  const Birth birth = {.program = program_.c_str(),
                       .environment = environment.data(),
                       .parent = getpid(),
                       .gate = gate_out.get(),
                       .control = control.get(),
                       .null = null.get(),
                       .error_output = errors_in.get(),
                       .memory_bytes_max = limits.memory_bytes_max,
                       .users = OwnIdsOnly(),
                       .group = *group,
                       .dies_with_parent = die_with_us_};
  // Signals of ours must not run handlers of ours in the child.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::string lack;
  const pid_t pid = ForkHost(birth, &lack);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) {
    group->Remove();
    return Failed("fork");
  }
  absl::StatusOr<ChildProcess> child = OpenChild(pid);
  if (!child.ok()) {
    gate_in.reset();  // the child ends without having run anything
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    group->Remove();
    return child.status();
  }
  child->processes_lack = std::move(lack);
  child->group = *std::move(group);
  child->group_lacks = std::move(group_lacks);
  child->gate = std::move(gate_in);
  child->error_output = std::move(errors_out);
  fcntl(child->error_output.get(), F_SETFL, O_NONBLOCK);
  return child;
}

HostCgroup ProcessSpawner::FindGroup(const std::string& name) {
  return groups_ != nullptr ? groups_->Reopen(name) : HostCgroup();
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
  if (code != 0 && errno == ECHILD) {
    // The process that waits for the orphans has taken its status. What its group says is left.
    const std::optional<uint64_t> starved = child.group.OomKills();
    if (starved.has_value() && *starved != 0) {
      return {.end = BH_END_STARVED, .text = "killed by the kernel for want of memory"};
    }
    return {.text = "it ended, as the child of a service that was gone: how is not known"};
  }
  if (code != 0) return {.text = absl::StrCat("lost: ", std::strerror(errno))};
  return ExitOf(child, info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
                                                  : W_EXITCODE(0, info.si_status));
}

void ProcessSpawner::Reap(ChildProcess& child) {
  siginfo_t info = {};
  while (waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED) != 0 &&
         errno == EINTR) {
  }
  child.group.Remove();
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
