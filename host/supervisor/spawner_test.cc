// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/spawner.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr uint64_t kSoonNs = 30 * kNanosecondsPerSecond;

// A child that sleeps until a byte comes, again and again.
TEST(ProcessSpawner, CountsHowOftenAChildWentToSleep) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  ChildProcess child;
  child.pid = fork();
  ASSERT_GE(child.pid, 0);
  if (child.pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(in.get());
    for (char byte; read(out.get(), &byte, 1) == 1;) {
    }
    _exit(0);
  }
  ProcessSpawner spawner("none");
  const auto await = [&](auto condition) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (!condition(spawner.SleepCount(child))) {
      if (MonotonicNowNs() > until_ns) return false;
      sched_yield();
    }
    return true;
  };
  // Asleep in the pipe, and not in the fault of a page, when one wake-up is one sleep more.
  uint64_t before = 0;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(await([&](const auto& sleeps) {
      before = sleeps.value_or(0);
      return sleeps.has_value();
    }));
    ASSERT_EQ(write(in.get(), "", 1), 1);
    ASSERT_TRUE(await([&](const auto& sleeps) { return sleeps > before; }));
  }
  EXPECT_EQ(spawner.SleepCount(child), before + 1);
  EXPECT_EQ(spawner.SleepCount(child), before + 1) << "it has not run";

  ASSERT_EQ(kill(child.pid, SIGSTOP), 0);
  int status;
  ASSERT_EQ(waitpid(child.pid, &status, WUNTRACED), child.pid);
  EXPECT_EQ(spawner.SleepCount(child), std::nullopt) << "stopped is not asleep";
  ASSERT_EQ(kill(child.pid, SIGKILL), 0);
  ASSERT_EQ(waitpid(child.pid, &status, 0), child.pid);
  EXPECT_EQ(spawner.SleepCount(child), std::nullopt) << "there is no such process";
}

// What it says of a child that has ended and was not reaped yet is what reaping it says.
TEST(ProcessSpawner, KnowsHowAChildIsEnding) {
  ProcessSpawner spawner("none");
  for (const int end : {0, 3, -SIGKILL, -SIGSEGV, -SIGTERM, -SIGINT, -SIGHUP}) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    UniqueFd out(ends[0]), in(ends[1]);
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (end >= 0) _exit(end);
      signal(-end, SIG_DFL);  // it may be ignored where the test was started
      (void)!write(in.get(), "", 1);
      for (;;) pause();
    }
    in.reset();
    absl::StatusOr<ChildProcess> child = OpenChild(pid);
    ASSERT_TRUE(child.ok()) << child.status();
    if (end < 0) {
      char ready;
      ASSERT_EQ(read(out.get(), &ready, 1), 1);
      EXPECT_FALSE(spawner.Ending(*child).has_value()) << "it lives";
      ASSERT_EQ(kill(pid, -end), 0);
    }
    siginfo_t info;
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
    const std::optional<ChildExit> ending = spawner.Ending(*child);
    const ChildExit exit = spawner.Exit(*child);
    spawner.Reap(*child);
    const bh_end wanted = end == 0                      ? BH_END_STOPPED
                          : end == 3 || end == -SIGSEGV ? BH_END_CRASHED
                                                        : BH_END_KILLED;
    EXPECT_EQ(exit.end, wanted) << end;
    ASSERT_EQ(ending.has_value(), end != 0) << end;
    if (!ending) continue;
    EXPECT_EQ(ending->end, exit.end) << end;
    EXPECT_EQ(ending->text, exit.text) << end;
  }
}

TEST(ProcessSpawner, AHostGetsNothingOfTheOperatorsEnvironment) {
  std::string secret = "AWS_SECRET_ACCESS_KEY=x", preload = "LD_PRELOAD=/tmp/evil.so";
  std::string language = "LANG=de_DE.UTF-8", zone = "TZ=UTC", kind = "LC_TIME=C", odd = "NOTHING";
  std::string options = "MYSAN_OPTIONS=x", empty = "LC_ALL=";
  char* ours[] = {secret.data(), preload.data(), language.data(), zone.data(), kind.data(),
                  odd.data(),    options.data(), empty.data(),    nullptr};
  std::vector<std::string> wanted = {language, zone, kind, empty};
  if (kSanitized) wanted.insert(wanted.begin() + 3, options);
  wanted.emplace_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  wanted.emplace_back("MIMALLOC_SHOW_ERRORS=1");
  EXPECT_EQ(HostEnvironment(ours), wanted);
}

// Looked at while the child waits at its gate.
TEST(ProcessSpawner, AHostHasNoSupplementaryGroups) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give itself a group to lose";
  const gid_t group = 12345;
  ASSERT_EQ(setgroups(1, &group), 0);
  int control[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
  const UniqueFd ours(control[0]);
  ProcessSpawner spawner("/bin/true");
  absl::StatusOr<ChildProcess> child =
      spawner.Spawn(UniqueFd(control[1]), {.memory_bytes_max = 64 << 20});
  ASSERT_TRUE(child.ok()) << child.status();
  const auto groups = [&child] {
    std::ifstream status("/proc/" + std::to_string(child->pid) + "/status");
    std::string line;
    while (std::getline(status, line) && !line.starts_with("Groups:")) {
    }
    return line;
  };
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (groups().find("12345") != std::string::npos && MonotonicNowNs() < until_ns) sched_yield();
  EXPECT_EQ(groups().find("12345"), std::string::npos) << groups();
  EXPECT_EQ(groups().rfind("Groups:", 0), 0u) << "it was looked at";
  spawner.Kill(*child);
  spawner.Reap(*child);
  ASSERT_EQ(setgroups(0, nullptr), 0);
}

// Of a child that waits at its gate.
std::string LineOfStatus(pid_t pid, const std::string& name) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string line;
  while (std::getline(status, line) && !line.starts_with(name)) {
  }
  return line;
}

TEST(ProcessSpawner, AHostIsTheFirstOfItsProcessIdNamespace) {
  int control[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
  const UniqueFd ours(control[0]);
  ProcessSpawner spawner("/bin/true");
  absl::StatusOr<ChildProcess> child =
      spawner.Spawn(UniqueFd(control[1]), {.memory_bytes_max = 64 << 20});
  ASSERT_TRUE(child.ok()) << child.status();
  const std::string ids = LineOfStatus(child->pid, "NSpid:");
  if (child->processes_lack.empty()) {
    EXPECT_EQ(ids, "NSpid:\t" + std::to_string(child->pid) + "\t1");
  } else {
    EXPECT_EQ(ids, "NSpid:\t" + std::to_string(child->pid)) << child->processes_lack;
  }
  // Which it has no other way to learn there.
  child->gate.reset();
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child->pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(spawner.Exit(*child).text, "exit code 127") << "its gate closed without a byte";
  spawner.Reap(*child);
}

TEST(ProcessSpawner, AHostInItsOwnNamespaceEndsWithItsSupervisor) {
  int alive[2];
  ASSERT_EQ(pipe2(alive, O_CLOEXEC), 0);
  const pid_t supervisor = fork();
  if (supervisor == 0) {
    close(alive[0]);
    int control[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control) != 0) _exit(1);
    // Its control socket is this pipe's end: it is closed when the host has ended.
    if (dup2(alive[1], control[1]) < 0) _exit(2);
    close(alive[1]);
    ProcessSpawner spawner("/bin/cat");  // which refuses its arguments, if it gets so far
    absl::StatusOr<ChildProcess> child =
        spawner.Spawn(UniqueFd(control[1]), {.memory_bytes_max = 64 << 20});
    _exit(child.ok() ? 0 : 3);
  }
  close(alive[1]);
  int status = -1;
  waitpid(supervisor, &status, 0);
  EXPECT_EQ(status, 0);
  char byte = 0;
  EXPECT_EQ(read(alive[0], &byte, 1), 0);
  close(alive[0]);
}

TEST(ProcessSpawner, KnowsWhetherAnyThreadOfAChildIsLeft) {
  ProcessSpawner spawner("none");
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::thread([] {
      for (;;) pause();
    }).detach();
    // The first thread alone: it is a zombie, and the other goes on.
    syscall(SYS_exit, 0);
  }
  absl::StatusOr<ChildProcess> child = OpenChild(pid);
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_FALSE(spawner.HasLeft(*child));
  spawner.Kill(*child);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(spawner.HasLeft(*child));
  spawner.Reap(*child);
  EXPECT_FALSE(spawner.HasLeft(*child)) << "its number may be another's";
}

}  // namespace
}  // namespace bulkhead
