// SPDX-License-Identifier: Apache-2.0
//
// The state that supervisors of the kernel module leave behind, checked through its ABI. Run in a
// guest that has loaded the module, as the supervisor; the last test unloads it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"
#include "tests/kernel/module_abi/module_supervisor.h"

namespace bulkhead {
namespace {

TEST(LeftChannel, IsBusyUntilItsHostHasClosedIt) {
  UniqueFd host;
  {
    Supervisor first;
    ASSERT_EQ(first.AddChannel(), 0);
    host = first.BeginHost();
    ASSERT_EQ(first.Guard("/tmp/guarded"), 0);
  }
  void* calls = MapCalls(host);
  ASSERT_NE(calls, MAP_FAILED);
  Supervisor second;
  EXPECT_EQ(second.AddChannel(), EBUSY);
  EXPECT_EQ(second.AddChannel("another"), 0);
  EXPECT_EQ(second.added().generation, 0u);
  host.reset();
  EXPECT_EQ(second.AddChannel(), EBUSY);  // its host could still answer
  EXPECT_EQ(munmap(calls, bh_call_region_bytes(&kGeometry)), 0);
  EXPECT_EQ(second.AddChannel(), 0);
  EXPECT_EQ(second.added().generation, 1u);
  EXPECT_EQ(second.EndInOrder(), 0);
}

// A file system for each guard: the kernel module also limits their number.
class LeftGuards : public testing::Test {
 protected:
  static constexpr int kOwn = 64;
  static constexpr int kPlaces = 2 * kOwn + 1;

  void SetUp() override {
    for (int i = 0; i < kPlaces; ++i) {
      mkdir(Place(i).c_str(), 0755);
      ASSERT_EQ(mount("left", Place(i).c_str(), "tmpfs", 0, "size=64k"), 0) << strerror(errno);
      ASSERT_TRUE(UniqueFd(open(File(i).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid());
    }
  }
  void TearDown() override {
    for (int i = 0; i < kPlaces; ++i) {
      EXPECT_EQ(umount(Place(i).c_str()), 0) << "still guarded? " << strerror(errno);
    }
  }
  static std::string Place(int i) { return "/tmp/left" + std::to_string(i); }
  static std::string File(int i) { return Place(i) + "/file"; }
  static int GuardFrom(Supervisor& supervisor, int first, int end) {
    int guarded = 0;
    for (int i = first; i < end; ++i) guarded += supervisor.Guard(Place(i)) == 0 ? 1 : 0;
    return guarded;
  }
  // By the policy: there is no host.
  static int DeniedFrom(int first, int end) {
    int denied = 0;
    for (int i = first; i < end; ++i) {
      const UniqueFd file(open(File(i).c_str(), O_RDONLY | O_CLOEXEC));
      denied += !file.valid() && errno == EPERM ? 1 : 0;
    }
    return denied;
  }
};

TEST_F(LeftGuards, OfSeveralSupervisorsStayInForceAndAreReplacedInBounds) {
  {
    Supervisor first;
    ASSERT_EQ(first.AddChannel(), 0);
    first.BeginHost();
    EXPECT_EQ(GuardFrom(first, 0, kOwn), kOwn);
    EXPECT_EQ(first.Guard(Place(kOwn)), ENOSPC);
  }
  {
    Supervisor second;  // dies before it has settled
    ASSERT_EQ(second.AddChannel(), 0);
    EXPECT_EQ(GuardFrom(second, kOwn, 2 * kOwn), kOwn);
    EXPECT_EQ(second.Guard(Place(2 * kOwn)), ENOSPC);
  }
  EXPECT_EQ(DeniedFrom(0, kPlaces), 2 * kOwn);
  Supervisor third;
  ASSERT_EQ(third.AddChannel(), 0);
  EXPECT_EQ(third.Guard(Place(2 * kOwn)), ENOSPC);
  // The remaining state must leave room, or no supervisor could take over.
  EXPECT_EQ(GuardFrom(third, 0, kOwn - 1), kOwn - 1);
  EXPECT_EQ(DeniedFrom(0, kPlaces), 2 * kOwn);
  EXPECT_EQ(third.Settle(), 0);
  EXPECT_EQ(DeniedFrom(0, kPlaces), kOwn - 1);
  EXPECT_EQ(third.Guard(Place(2 * kOwn)), 0);
  EXPECT_EQ(DeniedFrom(kOwn, kPlaces), 1);
  EXPECT_EQ(third.Guard(Place(kOwn)), ENOSPC);
  EXPECT_EQ(third.EndInOrder(), 0);
  EXPECT_EQ(DeniedFrom(0, kPlaces), 0);
}

// It takes no new calls, and so is no longer the active one; the channel's removal must not wait
// for the calls that it has.
TEST_F(LeftGuards, CallsOfADrainingHostEndWithTheirChannel) {
  constexpr uint64_t kDeadlineNs = 60 * kNanosecondsPerSecond;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const UniqueFd go(ready[0]);
  UniqueFd say_go(ready[1]);
  const pid_t caller = fork();  // before a supervisor has a descriptor to inherit
  ASSERT_GE(caller, 0);
  if (caller == 0) {
    say_go.reset();
    char line;
    if (read(go.get(), &line, 1) != 1) _exit(1);
    const UniqueFd file(open(File(0).c_str(), O_RDONLY | O_CLOEXEC));
    _exit(file.valid() ? 0 : errno);
  }
  UniqueFd host;
  const uint64_t began_ns = MonotonicNowNs();
  {
    Supervisor supervisor;
    ASSERT_EQ(supervisor.AddChannel(), 0);
    host = supervisor.BeginHost();
    ASSERT_EQ(supervisor.Guard(Place(0), kDeadlineNs), 0);
    EXPECT_EQ(write(say_go.get(), "\n", 1), 1);
    while (supervisor.InFlight() == 0) {
      ASSERT_LT(MonotonicNowNs() - began_ns, kDeadlineNs / 2);
      sched_yield();
    }
    EXPECT_EQ(supervisor.Drain(), 0);
    EXPECT_EQ(supervisor.EndInOrder(), 0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(caller, &status, 0), caller);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == EPERM) << status;
  EXPECT_LT(MonotonicNowNs() - began_ns, kDeadlineNs / 2);
}

// No descriptor of the module can be found any more, but the mapping still keeps it loaded.
TEST(LeftMapping, UnloadingFindsAProcessWithOnlyAMapping) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  ASSERT_GE(holder, 0);
  if (holder == 0) {
    {
      Supervisor supervisor;
      UniqueFd host;
      if (supervisor.AddChannel() == 0) host = supervisor.BeginHost();
      if (MapCalls(host) == MAP_FAILED) _exit(1);
    }
    (void)!write(ready[1], "\n", 1);
    for (;;) pause();
  }
  close(ready[1]);
  char line;
  EXPECT_EQ(read(ready[0], &line, 1), 1);
  close(ready[0]);
  EXPECT_EQ(std::system("$BULKHEAD_BUILD/bin/bulkhead eject --unload"), 0);
  int status = 0;
  EXPECT_EQ(waitpid(holder, &status, 0), holder);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_NE(access("/sys/module/bulkhead", F_OK), 0);
}

}  // namespace
}  // namespace bulkhead
