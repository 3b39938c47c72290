// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/host_cgroup.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "host/supervisor/spawner.h"
#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// A child in a group, which calls `act` there.
ChildProcess StartIn(HostCgroup group, int (*act)()) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (const UniqueFd& door : group.doors()) {
      if (write(door.get(), "0", 1) != 1) _exit(100);
    }
    _exit(act());
  }
  absl::StatusOr<ChildProcess> child = OpenChild(pid);
  EXPECT_TRUE(child.ok()) << child.status();
  child->group = std::move(group);
  return *std::move(child);
}

class HostCgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!groups_.lacks().empty()) GTEST_SKIP() << groups_.lacks();
  }
  HostCgroup Make(const HostLimits& limits) {
    absl::StatusOr<HostCgroup> group = groups_.Make(limits);
    EXPECT_TRUE(group.ok()) << group.status();
    return group.ok() ? *std::move(group) : HostCgroup();
  }
  HostCgroups groups_ = HostCgroups::Find();
  ProcessSpawner spawner_{"none"};
};

// Shared memory, which no limit of a process counts.
int TakeMemory() {
  constexpr size_t kBytes = 256 << 20;
  const int memory = memfd_create("host-cgroup-test", 0);
  if (memory < 0 || ftruncate(memory, kBytes) != 0) return 101;
  char* start = static_cast<char*>(mmap(nullptr, kBytes, PROT_WRITE, MAP_SHARED, memory, 0));
  if (start == MAP_FAILED) return 102;
  for (size_t at = 0; at < kBytes; at += 4096) start[at] = 1;
  return 0;
}

TEST_F(HostCgroupTest, MemoryOfEveryKindIsLimited) {
  ChildProcess child = StartIn(Make({.memory_bytes_max = 32 << 20}), &TakeMemory);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child.pid), &info, WEXITED | WNOWAIT), 0);
  // Killed as a group the process may count twice.
  EXPECT_GE(child.group.OomKills(), 1u);
  const ChildExit exit = spawner_.Exit(child);
  EXPECT_EQ(exit.end, BH_END_STARVED) << exit.text;
  spawner_.Reap(child);
}

TEST_F(HostCgroupTest, AKillInAGroupThatLacksNothingIsAKill) {
  ChildProcess child = StartIn(Make({.memory_bytes_max = 32 << 20}), [] { return pause(); });
  spawner_.Kill(child);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child.pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(child.group.OomKills(), 0u);
  EXPECT_EQ(spawner_.Exit(child).end, BH_END_KILLED);
  spawner_.Reap(child);
}

TEST_F(HostCgroupTest, AProcessIsInItsGroupUntilItIsReaped) {
  HostCgroup group = Make({.memory_bytes_max = 32 << 20, .cpu_percent_max = 50});
  const std::string name = group.name();
  ASSERT_FALSE(name.empty());
  ChildProcess child = StartIn(std::move(group), [] { return pause(); });
  // It is when it has entered, and a child enters before all else.
  const auto entered = [&] {
    return ReadAll("/proc/" + std::to_string(child.pid) + "/cgroup").find("/" + name) !=
           std::string::npos;
  };
  while (!entered() && kill(child.pid, 0) == 0) sched_yield();
  EXPECT_TRUE(entered());
  spawner_.Kill(child);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child.pid), &info, WEXITED | WNOWAIT), 0);
  spawner_.Reap(child);
  int left = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator entry("/sys/fs/cgroup", error), end; !error && entry != end;
       entry.increment(error)) {
    left += entry->path().filename() == name;
  }
  EXPECT_EQ(left, 0);
}

TEST_F(HostCgroupTest, WhatAKilledServiceLeftIsRemoved) {
  std::string name;
  {
    // Not reaped, so not removed.
    HostCgroup group = Make({.memory_bytes_max = 32 << 20});
    name = group.name();
  }
  const auto exists = [&name] {
    std::error_code error;
    for (fs::recursive_directory_iterator entry("/sys/fs/cgroup", error), end;
         !error && entry != end; entry.increment(error)) {
      if (entry->path().filename() == name) return true;
    }
    return false;
  };
  ASSERT_TRUE(exists());
  // This process's id is in its name, as that of a service of before would be.
  (void)HostCgroups::Find();
  EXPECT_FALSE(exists());
}

TEST(HostCgroups, WithoutAHierarchySayWhy) {
  const std::string proc = testing::TempDir() + "/host-cgroup-" + std::to_string(getpid());
  fs::create_directories(proc + "/self");
  std::ofstream(proc + "/self/cgroup") << "0::/user.slice\n";
  std::ofstream(proc + "/self/mountinfo") << "25 1 0:22 / " << proc << " rw - cgroup2 cgroup2 rw\n"
                                          << "26 1 0:23 / /nowhere rw - tmpfs tmpfs rw\n";
  HostCgroups groups = HostCgroups::Find(proc);
  EXPECT_EQ(groups.lacks(), "no hierarchy of control groups is mounted that counts memory");
  EXPECT_EQ(groups.Make({}).status().message(), groups.lacks());
  fs::remove_all(proc);
}

// A group that other processes are in is not the service's to divide.
TEST(HostCgroups, LeaveAGroupWithOthersAlone) {
  const std::string top = testing::TempDir() + "/host-cgroup-others-" + std::to_string(getpid());
  const std::string base = top + "/session.scope";
  fs::create_directories(top + "/self");
  fs::create_directories(base);
  std::ofstream(top + "/self/cgroup") << "0::/session.scope\n";
  std::ofstream(top + "/self/mountinfo") << "25 1 0:22 / " << top << " rw - cgroup2 cgroup2 rw\n";
  std::ofstream(base + "/cgroup.controllers") << "cpu memory pids\n";
  std::ofstream(base + "/cgroup.type") << "domain\n";
  std::ofstream(base + "/cgroup.procs") << "1\n" << getpid() << "\n";
  const HostCgroups groups = HostCgroups::Find(top);
  EXPECT_EQ(groups.lacks(), "the control group " + base +
                                " has other processes (1): start it as a service of its own "
                                "(systemd: Delegate=yes)");
  EXPECT_FALSE(fs::exists(base + "/bulkhead-service"));
  fs::remove_all(top);
}

// Its own group, which has other processes, is not touched, nor does it move into the other.
TEST(HostCgroups, AGroupApartIsUsedInsteadOfItsOwn) {
  const std::string top = testing::TempDir() + "/host-cgroup-apart-" + std::to_string(getpid());
  const std::string own = top + "/bulkhead.service", apart = top + "/bulkhead-hosts.scope";
  fs::create_directories(top + "/self");
  std::ofstream(top + "/self/cgroup") << "0::/bulkhead.service\n";
  std::ofstream(top + "/self/mountinfo") << "25 1 0:22 / " << top << " rw - cgroup2 cgroup2 rw\n";
  for (const std::string& base : {own, apart}) {
    fs::create_directories(base);
    std::ofstream(base + "/cgroup.controllers") << "cpu memory pids\n";
    std::ofstream(base + "/cgroup.type") << "domain\n";
    std::ofstream(base + "/cgroup.subtree_control") << "";
  }
  std::ofstream(own + "/cgroup.procs") << "1\n" << getpid() << "\n";
  std::ofstream(apart + "/cgroup.procs") << "";
  {
    const HostCgroups groups = HostCgroups::Find(top, apart);
    EXPECT_EQ(groups.lacks(), "");
    EXPECT_NE(ReadAll(apart + "/cgroup.subtree_control"), "");
    EXPECT_EQ(ReadAll(own + "/cgroup.subtree_control"), "");
  }
  EXPECT_FALSE(fs::exists(apart + "/bulkhead-service"));
  EXPECT_FALSE(fs::exists(own + "/bulkhead-service"));
  fs::remove_all(top);
}

}  // namespace
}  // namespace bulkhead
