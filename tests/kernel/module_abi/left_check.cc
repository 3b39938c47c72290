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
#include <string_view>

#include "ipc/abi/module.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {
namespace {

constexpr bh_geometry kGeometry = {
    .lanes = 1, .slots_per_lane = 8, .call_chunks = 32, .reply_chunks = 0};

// Another process opens it, and ends: no excluded process opens this one's files.
UniqueFd OpenDevice() {
  const auto opener = static_cast<pid_t>(
      syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (opener == 0) _exit(open("/dev/bulkhead", O_RDWR | O_CLOEXEC));
  int status = 0;
  EXPECT_EQ(waitpid(opener, &status, 0), opener);
  EXPECT_TRUE(WIFEXITED(status) && fcntl(WEXITSTATUS(status), F_GETFD) >= 0);
  return UniqueFd(WEXITSTATUS(status));
}

// A supervisor's life: it counts as dead when this has closed its descriptor.
class Supervisor {
 public:
  int AddChannel(const char* name = "left") {
    added_ = {};
    added_.abi = BH_MODULE_ABI;
    std::string_view(name).copy(added_.name, sizeof(added_.name) - 1);
    added_.geometry = kGeometry;
    for (auto& of_class : added_.policy.rule) {
      for (bh_rule& rule : of_class) rule = {BH_ACTION_DENY, BH_ACTION_DENY};
    }
    return ioctl(device_.get(), BH_CONTROL_ADD, &added_) == 0 ? 0 : errno;
  }
  // The host's descriptor, of a generation that has begun.
  UniqueFd BeginHost() {
    bh_module_host wanted = {.channel = added_.channel, .reserved = 0};
    UniqueFd host(ioctl(device_.get(), BH_CONTROL_HOST, &wanted));
    const uint64_t callbacks = bh_callback_bit(BH_CALLBACK_FILE_OPEN);
    bh_module_begin begin = {.channel = added_.channel,
                             .generation = added_.generation + 1,
                             .callbacks = callbacks,
                             .descriptor_callbacks = callbacks,
                             .content_version = 1};
    EXPECT_EQ(ioctl(device_.get(), BH_CONTROL_BEGIN, &begin), 0) << strerror(errno);
    return host;
  }
  int Guard(const std::string& folder, uint64_t deadline_ns = kNanosecondsPerSecond) {
    const UniqueFd place(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    bh_module_guard guard = {};
    guard.fd = place.get();
    guard.kind = BH_GUARD_TREE;
    guard.deadline_ns = deadline_ns;
    guard.callbacks = bh_callback_bit(BH_CALLBACK_FILE_OPEN);
    guard.filter.owner = BH_MODULE_ANY_OWNER;
    return ioctl(device_.get(), BH_CONTROL_GUARD, &guard) == 0 ? 0 : errno;
  }
  int Settle() { return ioctl(device_.get(), BH_CONTROL_SETTLE) == 0 ? 0 : errno; }
  int Drain() {
    bh_module_state state = {.channel = added_.channel, .quarantined = 0, .draining = 1};
    return ioctl(device_.get(), BH_CONTROL_STATE, &state) == 0 ? 0 : errno;
  }
  uint64_t InFlight() {
    bh_module_statistics statistics = {.channel = added_.channel};
    EXPECT_EQ(ioctl(device_.get(), BH_CONTROL_STATISTICS, &statistics), 0) << strerror(errno);
    return statistics.counters.in_flight;
  }
  int EndInOrder() { return ioctl(device_.get(), BH_CONTROL_UNGUARD) == 0 ? 0 : errno; }
  const bh_module_add& added() const { return added_; }

 private:
  const UniqueFd device_ = OpenDevice();
  bh_module_add added_ = {};
};

void* MapCalls(const UniqueFd& host) {
  return mmap(nullptr, bh_call_region_bytes(&kGeometry), PROT_READ, MAP_SHARED, host.get(), 0);
}

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
