// SPDX-License-Identifier: Apache-2.0
//
// The kernel module's reaction to guards that exceed their bounds. Run in a guest as the module's
// only supervisor.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <utility>

#include "ipc/abi/module.h"
#include "tests/kernel/module_abi/module_supervisor.h"

namespace bulkhead {
namespace {

class Guard : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_GE(device_, 0) << strerror(errno);
    ASSERT_GE(folder_, 0);
    ASSERT_GE(file_, 0);
  }
  void TearDown() override {
    EXPECT_EQ(ioctl(device_, BH_CONTROL_UNGUARD), 0);  // guards outlive the descriptor
    for (const int fd : {device_, folder_, file_}) close(fd);
  }
  bh_module_guard Valid() const {
    bh_module_guard guard = {};
    guard.fd = folder_;
    guard.kind = BH_GUARD_TREE;
    guard.deadline_ns = 1'000'000'000;
    guard.callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
    guard.filter.owner = BH_MODULE_ANY_OWNER;
    return guard;
  }
  // 0, or errno.
  int Add(const std::function<void(bh_module_guard& guard)>& change) const {
    bh_module_guard guard = Valid();
    change(guard);
    return ioctl(device_, BH_CONTROL_GUARD, &guard) == 0 ? 0 : errno;
  }
  int AddFilter(const std::function<void(bh_module_filter& filter)>& change) const {
    return Add([&change](bh_module_guard& guard) { change(guard.filter); });
  }

  const int device_ = open("/dev/bulkhead", O_RDWR | O_CLOEXEC);
  const int folder_ = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int file_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
};

TEST_F(Guard, ValidFiltersAreTaken) {
  EXPECT_EQ(Add([](bh_module_guard&) {}), 0);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.modes = BH_MODE_READ; }), 0);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.owner = 0; }), 0);
  EXPECT_EQ(AddFilter([this](bh_module_filter& filter) {
              for (int32_t& skip : filter.skip) skip = folder_;
              filter.skips = BH_MODULE_SKIPS;
            }),
            0);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) {
              for (auto& extension : filter.extension) {
                std::memset(extension, 'x', BH_MODULE_EXTENSION_BYTES - 1);
              }
              filter.extensions = BH_MODULE_EXTENSIONS;
            }),
            0);
}

TEST_F(Guard, WhatIsOutOfBoundsIsRefused) {
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.modes = 4; }), EINVAL);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.skips = BH_MODULE_SKIPS + 1; }),
            EINVAL);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.skips = UINT32_MAX; }), EINVAL);
  EXPECT_EQ(
      AddFilter([](bh_module_filter& filter) { filter.extensions = BH_MODULE_EXTENSIONS + 1; }),
      EINVAL);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.extensions = 1; }), EINVAL);  // empty
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) {
              std::memset(filter.extension[0], 'x', BH_MODULE_EXTENSION_BYTES);
              filter.extensions = 1;
            }),
            EINVAL);
}

TEST_F(Guard, WhatIsNotUsedIsZero) {
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.extension[0][0] = 'x'; }), EINVAL);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) {
              std::strcpy(filter.extension[BH_MODULE_EXTENSIONS - 1], "x");
            }),
            EINVAL);
  EXPECT_EQ(AddFilter([this](bh_module_filter& filter) { filter.skip[0] = folder_; }), EINVAL);
}

TEST_F(Guard, OnlyFoldersAreSkipped) {
  EXPECT_EQ(AddFilter([this](bh_module_filter& filter) {
              filter.skip[0] = folder_;
              filter.skip[1] = file_;
              filter.skips = 2;
            }),
            ENOTDIR);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) {
              filter.skip[0] = -1;
              filter.skips = 1;
            }),
            EBADF);
}

TEST_F(Guard, ThereIsRoomForABoundedNumber) {
  int added = 0, error = 0;
  while (error == 0 && added < 10'000) {
    error = Add([](bh_module_guard&) {});
    added += error == 0 ? 1 : 0;
  }
  EXPECT_EQ(error, ENOSPC);
  EXPECT_EQ(added, 64);
}

TEST_F(Guard, AModeIsOneOfThoseThereAre) {
  EXPECT_EQ(Add([](bh_module_guard& guard) { guard.mode = BH_MODE_AUDIT; }), 0);
  EXPECT_EQ(Add([](bh_module_guard& guard) { guard.mode = 2; }), EINVAL);
}

TEST_F(Guard, OneWithTheSameIdTakesItsPlace) {
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(Add([](bh_module_guard& guard) { guard.id = 7; }), 0) << i;
  }
  for (uint32_t id = 8; id < 8 + 63; ++id) {
    ASSERT_EQ(Add([id](bh_module_guard& guard) { guard.id = id; }), 0) << id;
  }
  EXPECT_EQ(Add([](bh_module_guard& guard) { guard.id = 999; }), ENOSPC);
  EXPECT_EQ(Add([](bh_module_guard& guard) { guard.id = 7; }), 0) << "when all are taken, too";
  EXPECT_EQ(Add([](bh_module_guard& guard) {
              guard.id = 7;
              guard.kind = 99;
            }),
            EINVAL);
}

// ---- Deadlines

namespace folders {
constexpr char kOuter[] = "/tmp/deadlines";
constexpr char kInner[] = "/tmp/deadlines/inner";
constexpr char kOther[] = "/tmp/deadlines-other";
}  // namespace folders

constexpr uint64_t kShortNs = 40 * kNanosecondsPerSecond;
constexpr uint64_t kLongNs = 400 * kNanosecondsPerSecond;

class GuardDeadlines : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* folder : {folders::kOuter, folders::kInner, folders::kOther}) {
      mkdir(folder, 0755);
      ASSERT_TRUE(
          UniqueFd(open(File(folder).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid());
    }
    ASSERT_EQ(supervisor_.AddChannel(), 0);
    host_ = supervisor_.BeginHost();
    calls_ = static_cast<const uint8_t*>(MapCalls(host_));
    ASSERT_NE(calls_, MAP_FAILED);
  }
  void TearDown() override {
    EXPECT_EQ(supervisor_.EndInOrder(), 0);
    munmap(const_cast<uint8_t*>(calls_), bh_call_region_bytes(&kGeometry));
  }
  static std::string File(const std::string& folder) { return folder + "/file"; }
  // The slot that has a call which was not there before; the host never answers one.
  const bh_call_slot* NewCall() {
    for (uint32_t i = 0; i < bh_slot_count(&kGeometry); ++i) {
      const auto* slot = reinterpret_cast<const bh_call_slot*>(calls_ + bh_call_slot_offset(i));
      const uint64_t ticket = __atomic_load_n(&slot->ticket, __ATOMIC_ACQUIRE);
      if (ticket != BH_TICKET_NONE && seen_.insert({i, ticket}).second) return slot;
    }
    return nullptr;
  }
  // The call of a process that opens the file there, which EndCaller() ends.
  const bh_call_slot* CallOf(const std::string& folder, pid_t* caller) {
    const uint64_t before_ns = MonotonicNowNs();
    *caller = fork();
    if (*caller == 0) _exit(open(File(folder).c_str(), O_RDONLY | O_CLOEXEC) < 0 ? 1 : 0);
    const bh_call_slot* call = nullptr;
    while ((call = NewCall()) == nullptr && MonotonicNowNs() - before_ns < kShortNs) sched_yield();
    return call;
  }
  static void EndCaller(pid_t caller) {
    EXPECT_EQ(kill(caller, SIGKILL), 0);
    EXPECT_EQ(waitpid(caller, nullptr, 0), caller);
  }
  uint32_t SlotOf(const bh_call_slot* call) const {
    uint32_t slot = 0;
    while (calls_ + bh_call_slot_offset(slot) != reinterpret_cast<const uint8_t*>(call)) ++slot;
    return slot;
  }
  // Whether the call for an open there has this deadline, which the host can read.
  void ExpectDeadline(const std::string& folder, uint64_t deadline_ns) {
    const uint64_t before_ns = MonotonicNowNs();
    pid_t caller;
    const bh_call_slot* call = CallOf(folder, &caller);
    ASSERT_NE(call, nullptr) << "no call";
    EXPECT_GE(call->deadline_ns, before_ns - BH_COARSE_NS + deadline_ns);
    EXPECT_LE(call->deadline_ns, MonotonicNowNs() + deadline_ns);
    EndCaller(caller);
  }

  Supervisor supervisor_;
  UniqueFd host_;
  const uint8_t* calls_ = nullptr;
  std::set<std::pair<uint32_t, uint64_t>> seen_;
};

TEST_F(GuardDeadlines, EachGuardHasItsOwn) {
  ASSERT_EQ(supervisor_.Guard(folders::kOuter, kLongNs), 0);
  ASSERT_EQ(supervisor_.Guard(folders::kOther, kShortNs), 0);
  ExpectDeadline(folders::kOuter, kLongNs);
  ExpectDeadline(folders::kOther, kShortNs);
  ExpectDeadline(folders::kOuter, kLongNs);
}

TEST_F(GuardDeadlines, WhereSeveralCoverAFileTheLongestCounts) {
  ASSERT_EQ(supervisor_.Guard(folders::kOuter, kLongNs), 0);
  ASSERT_EQ(supervisor_.Guard(folders::kInner, kShortNs), 0);
  ExpectDeadline(folders::kInner, kLongNs);
  ExpectDeadline(folders::kOuter, kLongNs);
}

TEST_F(GuardDeadlines, InWhateverOrderTheyCome) {
  ASSERT_EQ(supervisor_.Guard(folders::kOuter, kShortNs), 0);
  ASSERT_EQ(supervisor_.Guard(folders::kInner, kLongNs), 0);
  ExpectDeadline(folders::kInner, kLongNs);
  ExpectDeadline(folders::kOuter, kShortNs);
}

// Its holder has 45 seconds to give it up, and any user can hold one on a file of its own.
TEST_F(GuardDeadlines, ALeaseOnTheFileKeepsNoWorkerOfTheHost) {
  const std::string outer = folders::kOuter;
  signal(SIGIO, SIG_IGN);
  const UniqueFd holder(open(File(outer).c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(holder.valid()) << strerror(errno);
  ASSERT_EQ(fcntl(holder.get(), F_SETLEASE, F_WRLCK), 0) << strerror(errno);
  ASSERT_EQ(supervisor_.Guard(outer, kLongNs), 0);
  pid_t caller;
  const bh_call_slot* call = CallOf(outer, &caller);
  ASSERT_NE(call, nullptr);
  const bh_module_fetch fetch = {.ticket = call->ticket, .slot = SlotOf(call), .reserved = 0};
  const UniqueFd fetched(ioctl(host_.get(), BH_HOST_FETCH, &fetch));
  EXPECT_FALSE(fetched.valid());
  EXPECT_EQ(errno, EAGAIN);
  EndCaller(caller);
}

// A guarded folder is moved away and made anew, more often than there is room for guards.
TEST_F(GuardDeadlines, APlaceThatIsAnotherObjectNowIsGuardedInItsStead) {
  constexpr uint32_t kId = 3;
  const std::string outer = folders::kOuter, moved = outer + "-moved";
  ASSERT_EQ(supervisor_.Guard(outer, kLongNs, kId), 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(rename(outer.c_str(), moved.c_str()), 0) << strerror(errno);
    ASSERT_EQ(mkdir(outer.c_str(), 0755), 0) << strerror(errno);
    ASSERT_TRUE(UniqueFd(open(File(outer).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid());
    ASSERT_EQ(supervisor_.Guard(outer, kLongNs, kId), 0) << i;
    EXPECT_TRUE(UniqueFd(open(File(moved).c_str(), O_RDONLY | O_CLOEXEC)).valid()) << "unasked";
    std::filesystem::remove_all(moved);
  }
  ExpectDeadline(outer, kLongNs);
}

// Guards that change: all are left, those to come are set, and the rest goes.
TEST_F(GuardDeadlines, WhatIsLeftIsInForceUntilItIsSettled) {
  const std::string outer = folders::kOuter, other = folders::kOther;
  ASSERT_EQ(supervisor_.Guard(outer, kLongNs), 0);
  ASSERT_EQ(supervisor_.Guard(other, kLongNs), 0);
  ASSERT_EQ(supervisor_.Leave(), 0);
  ExpectDeadline(outer, kLongNs);
  ASSERT_EQ(supervisor_.Guard(other, kShortNs), 0);
  ExpectDeadline(other, kShortNs);
  ExpectDeadline(outer, kLongNs);
  ASSERT_EQ(supervisor_.Settle(), 0);
  ExpectDeadline(other, kShortNs);
  EXPECT_TRUE(UniqueFd(open(File(outer).c_str(), O_RDONLY | O_CLOEXEC)).valid()) << "unasked";
  ASSERT_EQ(supervisor_.Leave(), 0);
  ASSERT_EQ(supervisor_.Settle(), 0);
  EXPECT_TRUE(UniqueFd(open(File(other).c_str(), O_RDONLY | O_CLOEXEC)).valid()) << "unasked";
}

// As many as there is room for change at once, again and again.
TEST_F(Guard, AllCanBeLeftAndSetAgain) {
  for (int round = 0; round < 5; ++round) {
    for (uint32_t id = 1; id <= 64; ++id) {
      ASSERT_EQ(Add([id](bh_module_guard& guard) { guard.id = id; }), 0) << round << " " << id;
    }
    EXPECT_EQ(Add([](bh_module_guard& guard) { guard.id = 65; }), ENOSPC);
    ASSERT_EQ(ioctl(device_, BH_CONTROL_LEAVE), 0);
    if (round % 2 == 0) continue;
    ASSERT_EQ(ioctl(device_, BH_CONTROL_SETTLE), 0);
  }
}

// ---- Audit

class GuardAudit : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* folder : {folders::kOuter, folders::kInner}) {
      mkdir(folder, 0755);
      ASSERT_TRUE(
          UniqueFd(open(File(folder).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid());
    }
    ASSERT_EQ(supervisor_.AddChannel(), 0);  // without a host each call is denied
  }
  void TearDown() override { EXPECT_EQ(supervisor_.EndInOrder(), 0); }
  static std::string File(const std::string& folder) { return folder + "/file"; }
  static bool Opens(const std::string& folder) {
    return UniqueFd(open(File(folder).c_str(), O_RDONLY | O_CLOEXEC)).valid();
  }

  Supervisor supervisor_;
};

TEST_F(GuardAudit, OfADriverAllGuardsLetThrough) {
  ASSERT_EQ(supervisor_.Guard(folders::kOuter), 0);
  EXPECT_FALSE(Opens(folders::kOuter));
  ASSERT_EQ(supervisor_.SetMode(BH_MODE_AUDIT), 0);
  EXPECT_TRUE(Opens(folders::kOuter));
  const bh_statistics counters = supervisor_.Statistics().counters;
  EXPECT_EQ(counters.denied, 1u);
  EXPECT_EQ(counters.would_deny, 1u);
  EXPECT_EQ(supervisor_.SetMode(2), EINVAL);
  ASSERT_EQ(supervisor_.SetMode(BH_MODE_ENFORCE), 0);
  EXPECT_FALSE(Opens(folders::kOuter));
}

TEST_F(GuardAudit, AFileIsAuditedWhenEachGuardOfItIs) {
  constexpr uint32_t kOuterId = 1, kInnerId = 2;
  for (const uint64_t inner_ns : {kShortNs, kLongNs}) {  // their order among the guards
    const auto set = [&](bh_mode outer, bh_mode inner) {
      ASSERT_EQ(supervisor_.Guard(folders::kOuter, kShortNs + 1, kOuterId, outer), 0);
      ASSERT_EQ(supervisor_.Guard(folders::kInner, inner_ns, kInnerId, inner), 0);
    };
    set(BH_MODE_AUDIT, BH_MODE_ENFORCE);
    EXPECT_TRUE(Opens(folders::kOuter));
    EXPECT_FALSE(Opens(folders::kInner));
    set(BH_MODE_ENFORCE, BH_MODE_AUDIT);
    EXPECT_FALSE(Opens(folders::kOuter));
    EXPECT_FALSE(Opens(folders::kInner));
    set(BH_MODE_AUDIT, BH_MODE_AUDIT);
    EXPECT_TRUE(Opens(folders::kOuter));
    EXPECT_TRUE(Opens(folders::kInner));
  }
}

TEST_F(GuardAudit, ADenialHasItsObjectAndItsCaller) {
  ASSERT_EQ(supervisor_.Guard(folders::kOuter), 0);
  bh_module_denial denial;
  EXPECT_EQ(supervisor_.TakeDenial(&denial), EAGAIN);
  EXPECT_FALSE(supervisor_.HasDenials());
  EXPECT_FALSE(Opens(folders::kOuter));
  ASSERT_EQ(supervisor_.SetMode(BH_MODE_AUDIT), 0);
  EXPECT_TRUE(Opens(folders::kInner));
  EXPECT_TRUE(supervisor_.HasDenials());
  for (const bool audited : {false, true}) {
    ASSERT_EQ(supervisor_.TakeDenial(&denial), 0);
    const std::string path = File(audited ? folders::kInner : folders::kOuter);
    struct stat object = {};
    ASSERT_EQ(stat(path.c_str(), &object), 0);
    EXPECT_EQ(denial.channel, supervisor_.added().channel);
    EXPECT_EQ(denial.denial.audited, audited ? uint32_t{BH_AUDITED_DRIVER} : 0u);
    EXPECT_EQ(denial.denial.by, uint32_t{BH_DENIED_BY_POLICY});
    EXPECT_EQ(denial.denial.reason, uint32_t{BH_REASON_ABSENT});
    EXPECT_EQ(denial.denial.callback, uint32_t{BH_CALLBACK_FILE_OPEN});
    EXPECT_EQ(denial.denial.inode, object.st_ino);
    EXPECT_EQ(denial.denial.device, object.st_dev);
    EXPECT_EQ(denial.denial.pid, static_cast<uint32_t>(getpid()));
    EXPECT_EQ(denial.denial.uid, geteuid());
    EXPECT_STREQ(denial.denial.path, path.c_str());
    EXPECT_EQ(std::string(denial.denial.comm),
              std::string(program_invocation_short_name).substr(0, 15));
  }
  EXPECT_EQ(supervisor_.TakeDenial(&denial), EAGAIN);
}

TEST_F(GuardAudit, WhatFindsNoRoomIsCounted) {
  ASSERT_EQ(supervisor_.Guard(folders::kOuter), 0);
  constexpr uint64_t kFlood = 500;
  for (uint64_t i = 0; i < kFlood; ++i) EXPECT_FALSE(Opens(folders::kOuter));
  uint64_t records = 0;
  bh_module_denial denial;
  while (supervisor_.TakeDenial(&denial) == 0) ++records;
  const bh_statistics counters = supervisor_.Statistics().counters;
  EXPECT_EQ(counters.denied, kFlood);
  EXPECT_GT(counters.unrecorded, 0u);
  EXPECT_EQ(records + counters.unrecorded, kFlood);
}

// ---- Before the first generation

TEST(FirstGeneration, UntilThenCallsAreTheAbsentPolicys) {
  mkdir(folders::kOuter, 0755);
  const std::string path = std::string(folders::kOuter) + "/file";
  ASSERT_TRUE(UniqueFd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid());
  Supervisor supervisor;
  ASSERT_EQ(supervisor.AddChannel(), 0);
  ASSERT_EQ(supervisor.Guard(folders::kOuter, kLongNs), 0);
  EXPECT_FALSE(UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC)).valid());
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(supervisor.Statistics().counters.by_policy[BH_REASON_ABSENT], 1u);
  EXPECT_EQ(supervisor.EndInOrder(), 0);
}

TEST(FirstGeneration, CallsAreHeldForIt) {
  mkdir(folders::kOuter, 0755);
  const std::string path = std::string(folders::kOuter) + "/file";
  ASSERT_TRUE(UniqueFd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid());
  constexpr uint64_t kDeadlineNs = kNanosecondsPerSecond / 5;
  Supervisor supervisor;
  ASSERT_EQ(supervisor.AddChannel("held", BH_ACTION_HOLD), 0);
  ASSERT_EQ(supervisor.Guard(folders::kOuter, kDeadlineNs), 0);
  const uint64_t before_ns = MonotonicNowNs();
  EXPECT_FALSE(UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC)).valid());
  EXPECT_EQ(errno, EPERM);
  EXPECT_GE(MonotonicNowNs() - before_ns, kDeadlineNs - BH_COARSE_NS);
  // A host that declares other callbacks only: these pass, and nothing is held for it any more.
  UniqueFd host = supervisor.MakeHost();
  supervisor.Begin(bh_set_of(BH_CALLBACK_FILE_EXEC));
  EXPECT_TRUE(UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC)).valid());
  EXPECT_EQ(supervisor.EndInOrder(), 0);
}

}  // namespace
}  // namespace bulkhead
