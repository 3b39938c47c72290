// SPDX-License-Identifier: Apache-2.0
//
// Real hosts under a real supervisor, on the embedded shim: what it does when they are killed,
// hang, have bad content or don't start.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "host/supervisor/supervisor.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "ipc/unique_fd.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/testing/send_signal.h"

namespace bulkhead {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

constexpr uint64_t kSoonNs = 30 * kNanosecondsPerSecond;

class SupervisorIntegration : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* build = std::getenv("BULKHEAD_BUILD");
    ASSERT_NE(build, nullptr);
    build_ = build;
    folder_ = testing::TempDir() + "/supervisor-" + std::to_string(getpid());
    std::filesystem::create_directories(folder_ + "/run");
    auto shim = EmbeddedShim::Create({.deadline_ns = deadline_ns_});
    ASSERT_TRUE(shim.ok());
    shim_ = *std::move(shim);
    spawner_ = std::make_unique<ProcessSpawner>(build_ + "/bin/bulkhead-host");
  }
  void TearDown() override {
    supervisor_.reset();
    shim_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Start(const Manifest& manifest, const std::string& content) {
    Supervisor::Options options;
    options.link = shim_;
    options.spawner = spawner_.get();
    options.run_folder = folder_ + "/run";
    options.now_ns = now_ns_;
    options.chance = [] { return uint64_t{0}; };
    options.limits.hello_within_ns = kSoonNs;  // however busy this machine is
    options.heartbeat_every_ns = heartbeat_every_ns_;
    options.heartbeat_missed_ns = heartbeat_missed_ns_;
    options.on_event = on_event_;
    supervisor_ = std::make_unique<Supervisor>(std::move(options));
    DriverConfig config;
    config.manifest = manifest;
    config.content_folder = content;
    config.channel.geometry = {
        .lanes = 2, .slots_per_lane = 8, .call_chunks = 16, .reply_chunks = 0};
    config.channel.cache_entries = 0;
    config.options = "deny-odd";
    absl::Status status = supervisor_->AddDriver(config);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(supervisor_->Start().ok());
  }
  Manifest Named(const std::string& name) {
    auto manifest = LoadManifest(build_ + "/drivers/" + name);
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return *manifest;
  }
  bool Serves(const std::string& name) {
    const absl::Status status = supervisor_->WaitUntilServing(name, MonotonicAfterNs(kSoonNs));
    EXPECT_TRUE(status.ok()) << status;
    return status.ok();
  }
  // A dead host counts as serving until the supervisor has seen its end.
  bool ServesWithAnother(const std::string& name, pid_t than) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (supervisor_->HostPid(name) == than && MonotonicNowNs() < until_ns) sched_yield();
    EXPECT_NE(supervisor_->HostPid(name), than);
    return Serves(name);
  }
  Completion Ask(uint64_t inode) {
    FileRequest request;
    request.inode = inode;
    return shim_->Call(request);
  }
  Completion AskFile(const std::string& text) {
    const std::string path = folder_ + "/asked";
    std::ofstream(path) << text;
    FileRequest request;
    request.path = path;
    const auto file = OpenAndDescribe(request);
    EXPECT_TRUE(file.ok()) << file.status();
    return shim_->Call(request);
  }

  std::function<void(const DriverEvent&)> on_event_;
  std::function<uint64_t()> now_ns_ = MonotonicNowNs;
  uint64_t deadline_ns_ = kSoonNs;
  uint64_t heartbeat_every_ns_ = kNanosecondsPerSecond;
  uint64_t heartbeat_missed_ns_ = kSoonNs;
  std::string build_;
  std::string folder_;
  std::shared_ptr<EmbeddedShim> shim_;
  std::unique_ptr<ProcessSpawner> spawner_;
  std::unique_ptr<Supervisor> supervisor_;
};

TEST_F(SupervisorIntegration, AKilledHostIsReplacedAndItsCallsAreAnswered) {
  Start(Named("null"), "");
  ASSERT_TRUE(Serves("null"));
  constexpr uint64_t kKills = 8;  // more than the crashes that quarantine a driver
  for (uint64_t i = 0; i < kKills; ++i) {
    const pid_t killed = supervisor_->HostPid("null");
    EXPECT_EQ(getsid(killed), killed) << "a Ctrl-C in the supervisor's terminal is not for it";
    ASSERT_EQ(SendSignal(killed, SIGKILL), 0);
    const Completion even = Ask(2 * i);
    EXPECT_EQ(even.outcome, uint32_t{BH_OUTCOME_ANSWERED});
    EXPECT_TRUE(even.allowed());
    EXPECT_FALSE(Ask(2 * i + 1).allowed());
    // The shim asks the new host before the supervisor has the shim's answer.
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (supervisor_->Recoveries("null").size() <= i) {
      ASSERT_LT(MonotonicNowNs(), until_ns) << "recovery " << i << " is not counted";
      std::this_thread::yield();
    }
    ASSERT_TRUE(ServesWithAnother("null", killed));
  }
  EXPECT_EQ(supervisor_->Recoveries("null").size(), kKills);
}

// No call is under way, so that nothing but its silence can give it away.
TEST_F(SupervisorIntegration, AHostThatMissesItsHeartbeatIsReplaced) {
  heartbeat_missed_ns_ = 2 * kNanosecondsPerSecond;
  Start(Named("null"), "");
  ASSERT_TRUE(Serves("null"));
  const pid_t silent = supervisor_->HostPid("null");
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, silent, 0)));
  ASSERT_TRUE(process.valid());
  ASSERT_EQ(SendSignal(silent, SIGSTOP), 0);
  pollfd ended = {process.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ended, 1, kSoonNs / kNanosecondsPerMillisecond), 1) << "it was not killed";
  ASSERT_TRUE(ServesWithAnother("null", silent));
  EXPECT_EQ(Ask(2).outcome, uint32_t{BH_OUTCOME_ANSWERED}) << "by its successor";
  EXPECT_FALSE(Ask(1).allowed());
}

// Heartbeats come and go, and it does not run: that is how the supervisor knows that it is well.
TEST_F(SupervisorIntegration, AnIdleHostIsLeftAsleepAndStillWatched) {
  heartbeat_every_ns_ = 20 * kNanosecondsPerMillisecond;
  heartbeat_missed_ns_ = 2 * kNanosecondsPerSecond;
  Start(Named("null"), "");
  ASSERT_TRUE(Serves("null"));
  ChildProcess host;
  host.pid = supervisor_->HostPid("null");
  std::optional<uint64_t> sleeps;
  uint64_t since_ns = MonotonicNowNs();
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (MonotonicNowNs() < since_ns + 10 * heartbeat_every_ns_) {
    ASSERT_LT(MonotonicNowNs(), until_ns) << "it is woken again and again";
    if (const auto now = spawner_->SleepCount(host); !now || now != sleeps) {
      sleeps = now;
      since_ns = MonotonicNowNs();
    }
    sched_yield();
  }
  EXPECT_EQ(supervisor_->HostPid("null"), host.pid);
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, host.pid, 0)));
  ASSERT_TRUE(process.valid());
  ASSERT_EQ(SendSignal(host.pid, SIGSTOP), 0);
  pollfd ended = {process.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ended, 1, kSoonNs / kNanosecondsPerMillisecond), 1) << "it was not killed";
}

TEST_F(SupervisorIntegration, ACrashLoopIsQuarantinedAndReleased) {
  Start(Named("null"), "");
  ASSERT_TRUE(Serves("null"));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Serves("null"));
    const pid_t pid = supervisor_->HostPid("null");
    ASSERT_EQ(SendSignal(pid, SIGSEGV), 0);
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (supervisor_->HostPid("null") == pid && MonotonicNowNs() < until_ns) sched_yield();
  }
  const absl::Status status = supervisor_->WaitUntilServing("null", MonotonicAfterNs(kSoonNs));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  const Completion completion = Ask(2);
  EXPECT_EQ(completion.outcome, uint32_t{BH_OUTCOME_POLICY}) << "at once, not at the deadline";
  ASSERT_TRUE(supervisor_->LiftQuarantine("null", MonotonicAfterNs(kSoonNs)).ok());
  EXPECT_FALSE(Ask(1).allowed()) << "it serves when it is released";
  const absl::Status again = supervisor_->LiftQuarantine("null", MonotonicAfterNs(kSoonNs));
  EXPECT_TRUE(absl::IsFailedPrecondition(again)) << again;
  EXPECT_THAT(std::string(again.message()), HasSubstr("is not quarantined"));
}

TEST_F(SupervisorIntegration, AFileThatCrashesTheDriverCostsTwoHostsHoweverOftenItIsOpened) {
  Start(Named("faulty"), "");
  ASSERT_TRUE(Serves("faulty"));
  FileRequest clean, crash;
  clean.path = "/clean";
  clean.inode = 1;
  crash.path = "/crash-it";
  crash.inode = 2;
  crash.change = 1;
  ASSERT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
  const auto open_often = [&] {
    for (int i = 0; i < 20; ++i) {
      const Completion completion = shim_->Call(crash);
      EXPECT_EQ(completion.reason, uint32_t{BH_REASON_POISON});
      EXPECT_FALSE(completion.allowed());
      EXPECT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
    }
  };
  open_often();
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 2u);
  EXPECT_EQ(supervisor_->Status().drivers[0].statistics.poison_known, 1u);

  // What the driver depends on may have been repaired.
  ASSERT_TRUE(supervisor_->LiftQuarantine("faulty", MonotonicAfterNs(kSoonNs)).ok());
  EXPECT_EQ(supervisor_->Status().drivers[0].statistics.poison_known, 0u);
  const absl::Status again = supervisor_->LiftQuarantine("faulty", MonotonicAfterNs(kSoonNs));
  EXPECT_TRUE(absl::IsFailedPrecondition(again)) << again;
  open_often();
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 4u);
}

// A user makes one such file after the other. Others are served throughout.
TEST_F(SupervisorIntegration, AUsersFilesWithoutNumberTakeTheDriverFromNobody) {
  Start(Named("faulty"), "");
  ASSERT_TRUE(Serves("faulty"));
  FileRequest clean;
  clean.path = "/clean";
  clean.inode = 1;
  clean.owner = 1;  // root's
  ASSERT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
  const auto crash = [this](uint64_t inode, uint32_t owner) {
    FileRequest request;
    request.path = "/crash-it";
    request.inode = inode;
    request.change = 1;
    request.owner = owner;
    return shim_->Call(request).reason;
  };
  for (uint64_t inode = 2; inode < 30; ++inode) {
    EXPECT_EQ(crash(inode, 1001), uint32_t{BH_REASON_POISON}) << inode;
    EXPECT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED}) << inode;
  }
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 6u) << "two for each of three files";
  EXPECT_EQ(crash(100, 1002), uint32_t{BH_REASON_POISON});
  EXPECT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 8u) << "another user's was asked about";
}

// One that falls over everybody's files is of no use, whoever opens most of them.
TEST_F(SupervisorIntegration, ADriverThatFallsOverFilesOfSeveralIsQuarantined) {
  Start(Named("faulty"), "");
  ASSERT_TRUE(Serves("faulty"));
  FileRequest clean;
  clean.path = "/clean";
  ASSERT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
  for (uint64_t inode = 2; inode < 5; ++inode) {
    FileRequest crash;
    crash.path = "/crash-it";
    crash.inode = inode;
    crash.change = 1;
    crash.owner = inode == 3 ? 1 : 1001;  // root's is the second
    if (inode == 4) crash.deadline_ns = MonotonicAfterNs(kNanosecondsPerSecond);
    EXPECT_EQ(shim_->Call(crash).allowed(), false) << inode;
  }
  // The shim knows it before the status says so.
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (supervisor_->Status().drivers[0].state != "quarantined" && MonotonicNowNs() < until_ns) {
    sched_yield();
  }
  EXPECT_EQ(supervisor_->Status().drivers[0].state, "quarantined");
  EXPECT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_POLICY});
}

// Opens of a file that crashes the driver don't keep it from getting new content.
TEST_F(SupervisorIntegration, NewContentIsKeptThatFallsOverWhatTheOldFallsOverToo) {
  for (const char* content : {"/old", "/new"}) {
    std::filesystem::create_directories(folder_ + content);
    std::ofstream(folder_ + content + "/faults") << "";
  }
  Start(Named("faulty"), folder_ + "/old");
  ASSERT_TRUE(Serves("faulty"));
  const auto version =
      supervisor_->SetContent("faulty", folder_ + "/new", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(version.ok()) << version.status();
  FileRequest clean, crash;
  clean.path = "/clean";
  clean.inode = 1;
  crash.path = "/crash-it";
  crash.inode = 2;
  crash.change = 1;
  for (int opened = 0; opened < 5; ++opened) {
    ASSERT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
    EXPECT_EQ(shim_->Call(crash).reason, uint32_t{BH_REASON_POISON});
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    DriverStatusFields status;
    do {
      status = supervisor_->Status().drivers[0];
    } while ((status.content_version != *version || status.state != "serving") &&
             MonotonicNowNs() < until_ns);
    EXPECT_EQ(status.content_version, *version) << opened;
    EXPECT_EQ(status.state, "serving");
  }
  EXPECT_LE(supervisor_->Status().drivers[0].restarts, 6u);
}

TEST_F(SupervisorIntegration, BadContentIsTakenBackAndSaysWhy) {
  Start(Named("scanner"), build_ + "/drivers/scanner/rules");
  ASSERT_TRUE(Serves("scanner"));
  const std::string marker = std::string("BULKHEAD-TEST-") + "MARKER-DENY-ME";
  EXPECT_FALSE(AskFile(marker).allowed());
  EXPECT_TRUE(AskFile("clean").allowed());
  const std::string bad = folder_ + "/bad";
  std::filesystem::create_directories(bad);
  std::ofstream(bad + "/broken.yar") << "rule broken { condition: }\n";
  const auto version = supervisor_->SetContent("scanner", bad, MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(absl::IsFailedPrecondition(version.status())) << version.status();
  EXPECT_THAT(std::string(version.status().message()), HasSubstr(bad + "/broken.yar:1"));
  EXPECT_FALSE(AskFile(marker).allowed()) << "the old rules";
  std::filesystem::remove(bad + "/broken.yar");
  std::ofstream(bad + "/good.yar") << "rule any_file { condition: filesize > 3 }\n";
  ASSERT_TRUE(supervisor_->SetContent("scanner", bad, MonotonicAfterNs(kSoonNs)).ok());
  EXPECT_FALSE(AskFile("clean").allowed()) << "the new rules";
}

// What takes seconds to load must not make what is opened meanwhile wait.
TEST_F(SupervisorIntegration, TheOldContentServesWhileTheNewLoads) {
  for (const auto& [content, faults] :
       {std::pair("/old", ""), std::pair("/new", "slow-start"), std::pair("/bad", "hang-start")}) {
    std::filesystem::create_directories(folder_ + content);
    std::ofstream(folder_ + content + "/faults") << faults;
  }
  Manifest manifest = Named("faulty");
  manifest.start_within_s = 10;
  Start(manifest, folder_ + "/old");
  ASSERT_TRUE(Serves("faulty"));
  FileRequest clean;
  clean.path = "/clean";
  clean.inode = 1;
  const auto put = [&](const char* content) {
    auto version = std::async(std::launch::async, [&] {
      return supervisor_->SetContent("faulty", folder_ + content, MonotonicAfterNs(kSoonNs));
    });
    int answered = 0;
    while (version.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      EXPECT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
      ++answered;
    }
    EXPECT_GT(answered, 100) << content << ": they waited for it";
    return version.get();
  };
  const auto good = put("/new");
  EXPECT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(supervisor_->Status().drivers[0].content_version, 2u);
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 1u);
  const auto bad = put("/bad");
  EXPECT_TRUE(absl::IsFailedPrecondition(bad.status())) << bad.status();
  EXPECT_THAT(std::string(bad.status().message()), HasSubstr("did not start within 10 s"));
  EXPECT_EQ(supervisor_->Status().drivers[0].content_version, 2u);
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 1u) << "the host that serves is untouched";
}

class SlowScan : public SupervisorIntegration {
 protected:
  SlowScan() { deadline_ns_ = 3 * kNanosecondsPerSecond; }
};

// It can't be read within the deadline: what the scanner does not know is not let through for that.
TEST_F(SlowScan, AFileTooLargeForTheDeadlineIsNotAllowed) {
  Start(Named("scanner"), build_ + "/drivers/scanner/rules");
  ASSERT_TRUE(Serves("scanner"));
  const std::string path = folder_ + "/large";
  std::ofstream(path) << std::string("BULKHEAD-TEST-") + "MARKER-DENY-"
                      << "not quite";
  std::filesystem::resize_file(path, uint64_t{40} << 30);
  FileRequest request;
  request.path = path;
  const auto file = OpenAndDescribe(request);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE(shim_->Call(request).allowed());
  const Completion clean = AskFile("clean");
  EXPECT_TRUE(clean.allowed());
  EXPECT_EQ(clean.outcome, uint32_t{BH_OUTCOME_ANSWERED}) << "by the driver";
}

TEST_F(SupervisorIntegration, MemoryEndsWhereTheManifestSays) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime reserves terabytes: not limited then";
  Manifest manifest = Named("faulty");
  manifest.memory_mib_max = 256;
  Start(manifest, "");
  ASSERT_TRUE(Serves("faulty"));
  std::ifstream limits(absl::StrCat("/proc/", supervisor_->HostPid("faulty"), "/limits"));
  const std::string text(std::istreambuf_iterator<char>(limits), {});
  ASSERT_THAT(text, ContainsRegex(absl::StrCat("Max data size +[0-9]+ +", 256 << 20, " ")))
      << "or the machine would run out of memory";
  FileRequest greedy;
  greedy.path = "/memory-without-end";
  EXPECT_EQ(shim_->Call(greedy).reason, uint32_t{BH_REASON_POISON});
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (supervisor_->Status().drivers[0].restarts < 2 && MonotonicNowNs() < until_ns) {
    sched_yield();
  }
  ASSERT_TRUE(Serves("faulty"));
  EXPECT_THAT(supervisor_->Status().drivers[0].last_end,
              AllOf(HasSubstr("Aborted"), HasSubstr("unable to allocate memory")));
  FileRequest modest;
  modest.path = "/deny-this";
  EXPECT_FALSE(shim_->Call(modest).allowed()) << "its successor";
}

TEST_F(SupervisorIntegration, TheLeastMemoryIsEnoughForASmallDriver) {
  Manifest manifest = Named("null");
  manifest.memory_mib_max = 64;
  Start(manifest, "");
  EXPECT_TRUE(Serves("null"));
}

class BadDriver : public SupervisorIntegration {
 protected:
  // What an operator is told about a driver whose library is the file given.
  std::string Refusal(const std::string& library) {
    Manifest manifest = Named("null");
    manifest.library = library;
    manifest.folder = folder_;
    Start(manifest, "");
    return std::string(supervisor_->WaitUntilServing("null", MonotonicAfterNs(kSoonNs)).message());
  }
};

TEST_F(BadDriver, IsNoElfFile) {
  std::ofstream(folder_ + "/text.so") << "this is no library\n";
  EXPECT_THAT(Refusal("text.so"), HasSubstr("is not an ELF file"));
}

TEST_F(BadDriver, HasNoEntryPoint) {
  std::filesystem::copy_file("/lib/x86_64-linux-gnu/libm.so.6", folder_ + "/m.so");
  EXPECT_THAT(Refusal("m.so"), HasSubstr("has no entry point"));
}

TEST_F(BadDriver, IsAnother) {
  std::filesystem::copy_file(build_ + "/drivers/scanner/scanner.so", folder_ + "/s.so");
  EXPECT_THAT(Refusal("s.so"), HasSubstr("calls itself 'scanner'"));
}

TEST_F(BadDriver, IsNotThere) { EXPECT_THAT(Refusal("none.so"), HasSubstr("No such file")); }

// Every thread of the process.
bool Stopped(pid_t pid) {
  for (const auto& thread :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::ifstream file(thread.path() / "stat");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const size_t name_end = text.rfind(')');
    if (name_end == std::string::npos || text.compare(name_end + 2, 1, "T") != 0) return false;
  }
  return true;
}

class Hang : public SupervisorIntegration {
 protected:
  Hang() { deadline_ns_ = kNanosecondsPerSecond / 2; }
};

// Long enough for the driver to have the call in hand by then, on a slow machine, too.
class HangInHand : public SupervisorIntegration {
 protected:
  HangInHand() { deadline_ns_ = 2 * kNanosecondsPerSecond; }
};

// That the time which it hung does not count is lifecycle_test's.
TEST_F(HangInHand, ADriverThatHangsOverEachFileIsQuarantined) {
  Start(Named("faulty"), "");
  ASSERT_TRUE(Serves("faulty"));
  FileRequest clean;
  clean.path = "/clean";
  clean.inode = 1;
  ASSERT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
  for (uint64_t file = 2; file < 7; ++file) {
    ASSERT_TRUE(Serves("faulty")) << file;
    const pid_t pid = supervisor_->HostPid("faulty");
    FileRequest hang;
    hang.path = "/hang-up";
    hang.inode = file;
    const Completion completion = shim_->Call(hang);
    EXPECT_EQ(completion.reason, uint32_t{BH_REASON_OVERDUE});
    EXPECT_FALSE(completion.allowed()) << "what a driver had in hand is suspicious";
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (supervisor_->HostPid("faulty") == pid && MonotonicNowNs() < until_ns) sched_yield();
  }
  const absl::Status status = supervisor_->WaitUntilServing("faulty", MonotonicAfterNs(kSoonNs));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(HangInHand, AFileThatHangsTheDriverIsRememberedToo) {
  Start(Named("faulty"), "");
  ASSERT_TRUE(Serves("faulty"));
  FileRequest clean, hang;
  clean.path = "/clean";
  clean.inode = 1;
  hang.path = "/hang-up";
  hang.inode = 2;
  hang.change = 1;
  ASSERT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
  for (int opened = 0; opened < 10; ++opened) {
    const pid_t pid = supervisor_->HostPid("faulty");
    const Completion completion = shim_->Call(hang);
    EXPECT_FALSE(completion.allowed());
    EXPECT_EQ(completion.reason,
              opened < 2 ? uint32_t{BH_REASON_OVERDUE} : uint32_t{BH_REASON_POISON});
    if (opened < 2) {
      ASSERT_TRUE(ServesWithAnother("faulty", pid));
    }
  }
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 2u);
}

class BusyQueue : public SupervisorIntegration {
 protected:
  BusyQueue() { deadline_ns_ = 2 * kNanosecondsPerSecond; }
};

// Slower than its deadline allows for all that wait, and healthy: bursts, in each of which some
// calls come to the driver when their time is over.
TEST_F(BusyQueue, ABusyDriverIsNotKilledForIt) {
  Start(Named("faulty"), "");
  ASSERT_TRUE(Serves("faulty"));
  const pid_t pid = supervisor_->HostPid("faulty");
  for (uint64_t burst = 0; burst < 3; ++burst) {
    std::vector<std::thread> openers;
    for (uint64_t opener = 0; opener < 14; ++opener) {
      openers.emplace_back([this, inode = burst * 100 + opener + 1] {
        FileRequest slow;
        slow.path = "/slow-360-x";
        slow.inode = inode;
        (void)shim_->Call(slow);
      });
    }
    for (std::thread& opener : openers) opener.join();
  }
  EXPECT_EQ(supervisor_->HostPid("faulty"), pid);
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 0u);
}

// The same file from many openers at once, and from one after the other: never more than two hosts.
TEST_F(SupervisorIntegration, AFileThatCrashesTheDriverCostsTwoHostsHoweverManyOpenIt) {
  Start(Named("faulty"), "");
  ASSERT_TRUE(Serves("faulty"));
  FileRequest clean;
  clean.path = "/clean";
  clean.inode = 1;
  ASSERT_EQ(shim_->Call(clean).outcome, uint32_t{BH_OUTCOME_ANSWERED});
  std::atomic<int> allowed{0};
  std::vector<std::thread> openers;
  for (int opener = 0; opener < 16; ++opener) {
    openers.emplace_back([&] {
      FileRequest crash;
      crash.path = "/crash-it";
      crash.inode = 2;
      crash.change = 7;
      allowed.fetch_add(shim_->Call(crash).allowed() ? 1 : 0);
    });
  }
  for (std::thread& opener : openers) opener.join();
  EXPECT_EQ(allowed.load(), 0);
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (supervisor_->Status().drivers[0].restarts < 2 && MonotonicNowNs() < until_ns) {
    sched_yield();
  }
  ASSERT_TRUE(Serves("faulty"));
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 2u);
}

TEST_F(Hang, IsSeenByTheDeadlineAndEndsTheHost) {
  Start(Named("null"), "");
  ASSERT_TRUE(Serves("null"));
  const pid_t hung = supervisor_->HostPid("null");
  ASSERT_EQ(SendSignal(hung, SIGSTOP), 0);
  // Its threads stop one by one, and may answer until then.
  while (!Stopped(hung)) sched_yield();
  const Completion completion = Ask(1);
  EXPECT_EQ(completion.outcome, uint32_t{BH_OUTCOME_POLICY});
  EXPECT_EQ(completion.reason, uint32_t{BH_REASON_HUNG});
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (Ask(1).outcome != BH_OUTCOME_ANSWERED && MonotonicNowNs() < until_ns) sched_yield();
  EXPECT_NE(supervisor_->HostPid("null"), hung);
  EXPECT_FALSE(Ask(1).allowed());
}

// By the kernel, right after it has spoken: nothing of the host's own code runs any more.
TEST_F(SupervisorIntegration, TheLastWordsOfAKilledHostAreTold) {
  std::vector<DriverEvent> events;
  on_event_ = [&](const DriverEvent& event) { events.push_back(event); };
  Start(Named("faulty"), "");
  ASSERT_TRUE(Serves("faulty"));
  const pid_t killed = supervisor_->HostPid("faulty");
  FileRequest request;
  request.path = "words-";
  std::unique_ptr<EmbeddedShim::PendingCall> call = shim_->Start(request);
  Completion completion;
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (supervisor_->HostPid("faulty") == killed && MonotonicNowNs() < until_ns) {
    (void)shim_->Poll(*call, &completion);
    sched_yield();
  }
  (void)shim_->Cancel(*call);
  ASSERT_NE(supervisor_->HostPid("faulty"), killed);
  supervisor_.reset();
  std::vector<std::string> said;
  for (const DriverEvent& event : events) {
    if (event.pid != killed) continue;
    if (event.kind == DriverEventKind::kLog && event.text == "last words") {
      EXPECT_EQ(event.level, DriverEvent::Level::kError);
      EXPECT_NE(event.time_ns, 0u);
    }
    if (event.kind == DriverEventKind::kServing) continue;
    if (event.kind == DriverEventKind::kSandboxLacks) continue;  // of this machine
    said.push_back(absl::StrCat(DriverEventKindName(event.kind), ": ", event.text));
  }
  EXPECT_THAT(said, ::testing::ElementsAre(::testing::AnyOf("Log: last words", "Wrote: last cry"),
                                           ::testing::AnyOf("Log: last words", "Wrote: last cry"),
                                           ::testing::StartsWith("Ended: signal 31")));
}

// Held by a debugger, and later stopped without one.
TEST_F(SupervisorIntegration, ATracedHostDoesNotMissItsHeartbeat) {
  auto late_ns = std::make_shared<std::atomic<uint64_t>>(0);
  now_ns_ = [late_ns] { return MonotonicNowNs() + late_ns->load(); };
  heartbeat_missed_ns_ = 5 * kNanosecondsPerSecond;
  Start(Named("null"), "");
  ASSERT_TRUE(Serves("null"));
  const pid_t host = supervisor_->HostPid("null");
  if (ptrace(PTRACE_SEIZE, host, nullptr, nullptr) != 0) {
    GTEST_SKIP() << "this process may not trace: " << std::strerror(errno);
  }
  ASSERT_EQ(ptrace(PTRACE_INTERRUPT, host, nullptr, nullptr), 0);
  int status = 0;
  ASSERT_EQ(waitpid(host, &status, __WALL), host);
  for (int i = 0; i < 200; ++i) {
    *late_ns += kNanosecondsPerSecond;
    (void)supervisor_->LiftQuarantine("null", 0);  // wakes its thread; nothing is quarantined
    sched_yield();
  }
  EXPECT_EQ(supervisor_->HostPid("null"), host);
  ASSERT_EQ(SendSignal(host, SIGSTOP), 0);
  ASSERT_EQ(ptrace(PTRACE_DETACH, host, nullptr, nullptr), 0)
      << "it was killed: " << strerror(errno);
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (supervisor_->HostPid("null") == host && MonotonicNowNs() < until_ns) {
    *late_ns += kNanosecondsPerSecond;
    (void)supervisor_->LiftQuarantine("null", 0);
    sched_yield();
  }
  EXPECT_NE(supervisor_->HostPid("null"), host) << "a host that is stopped, and not traced";
}

}  // namespace
}  // namespace bulkhead
