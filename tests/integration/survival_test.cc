// SPDX-License-Identifier: Apache-2.0
//
// bulkheadd dies, or is stopped so that its hosts stay: they and the shim serve on, and the next
// one goes on with them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "host/store/descriptor_store.h"
#include "host/supervisor/instance.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "tests/testing/daemon_fixture.h"
#include "tests/testing/send_signal.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Survival : public Daemon {
 protected:
  void SetUp() override {
    Daemon::SetUp();
    if (IsSkipped()) return;
    Write(Scanner() + GuardOf(files_));
  }
  // Whatever a test has left: nothing may guard its folder afterwards.
  void TearDown() override {
    if (!config_.empty()) {
      EXPECT_FALSE(fs::exists(Store())) << "something is left for a next service";
      EndLeft();
    }
    Daemon::TearDown();
  }

  void EndLeft() {
    if (!fs::exists(Store())) return;
    absl::StatusOr<std::unique_ptr<DescriptorStore>> store = DescriptorStore::Open(
        {.path = Store(), .program = build_ + "/bin/bulkhead-fdstore", .log = {}});
    if (!store.ok()) return;
    EXPECT_TRUE(bulkhead::EndLeft(**store, /*shim_too=*/true).ok());
  }

  // It is this process's to wait for, or nobody's.
  static bool Ends(pid_t pid) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (SendSignal(pid, 0) == 0 && MonotonicNowNs() < until_ns) {
      if (waitpid(pid, nullptr, WNOHANG) == 0) poll(nullptr, 0, 5);
    }
    return SendSignal(pid, 0) != 0;
  }
  // By `bulkhead stop`.
  void StoppedByCommand(const std::string& words, const std::string& said) {
    const Outcome stop = Run("stop" + pid_ + words);
    EXPECT_EQ(stop.code, 0) << stop.text;
    EXPECT_THAT(stop.text, HasSubstr(said));
    KillService();  // it is a zombie of ours
  }
  // Until it guards: nothing that this waits for is bounded by a clock of ours.
  void ExpectGuarded() { EXPECT_FALSE(Opens(files_ + "/infected")); }
};

TEST_F(Survival, AKilledServiceIsGoneOnWith) {
  pid_t service = Start();
  ASSERT_GT(service, 0);
  const nlohmann::json before = Driver();
  for (int round = 0; round < 10; ++round) {
    KillService();
    ExpectGuarded();  // by the host that nobody supervises
    EXPECT_TRUE(Opens(files_ + "/clean"));
    service = Start();
    ASSERT_GT(service, 0);
    ExpectGuarded();
    const nlohmann::json now = Driver();
    EXPECT_EQ(now.at("pid"), before.at("pid"));
    EXPECT_EQ(now.at("generation"), before.at("generation"));
    EXPECT_EQ(now.at("restarts"), 0);
    EXPECT_NE(TextOf("Adopted"), "none");
  }
  EXPECT_EQ(StopService(), 0);
  EXPECT_TRUE(Opens(files_ + "/infected"));
  EXPECT_TRUE(Ends(before.at("pid")));
}

TEST_F(Survival, AHostThatIsGoneOnWithIsSupervised) {
  pid_t service = Start();
  ASSERT_GT(service, 0);
  KillService();
  service = Start();
  ASSERT_GT(service, 0);
  const pid_t host = Host();
  SendSignal(host, SIGKILL);
  AwaitEnd(host);
  ExpectGuarded();
  EXPECT_NE(Host(), host);
  EXPECT_EQ(Driver().at("restarts"), 1);
  KillService();
  ASSERT_GT(Start(), 0);
  EXPECT_EQ(Driver().at("restarts"), 1) << "is told on";
  // New content goes the usual way.
  std::ofstream(files_ + "/marked") << "what the new rule looks for\n";
  std::ofstream(rules_ + "/new.yar")
      << "rule new_rule { strings: $a = \"the new rule looks for\" condition: $a }\n";
  EXPECT_EQ(Run("content --driver scanner --content " + rules_ + pid_).code, 0);
  EXPECT_FALSE(Opens(files_ + "/marked"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, ContentInForceStaysInForce) {
  pid_t service = Start();
  ASSERT_GT(service, 0);
  std::ofstream(files_ + "/marked") << "what the new rule looks for\n";
  const std::string other = folder_ + "/other";
  fs::copy(rules_, other, fs::copy_options::recursive);
  std::ofstream(other + "/new.yar")
      << "rule new_rule { strings: $a = \"the new rule looks for\" condition: $a }\n";
  EXPECT_EQ(Run("content --driver scanner --content " + other + pid_).code, 0);
  EXPECT_FALSE(Opens(files_ + "/marked"));
  KillService();
  ASSERT_GT(Start(), 0);
  EXPECT_FALSE(Opens(files_ + "/marked"));
  EXPECT_EQ(Driver().at("content"), 2);
  const pid_t host = Host();
  SendSignal(host, SIGKILL);
  AwaitEnd(host);
  // How it ended is known if its new service has seen it ending: it is not that one's child. Else
  // it counts as crashed, for which content on its probation is taken back, and that is told.
  const bool taken_back = Opens(files_ + "/marked");
  EXPECT_EQ(Driver().at("content"), taken_back ? 1 : 2) << "its copy is there for the next host";
  EXPECT_EQ(TextOf("RolledBack") != "none", taken_back);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, AHostThatDiesWithoutAServiceIsReplacedByTheNext) {
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const pid_t host = Host();
  KillService();
  SendSignal(host, SIGKILL);
  AwaitEnd(host);
  ASSERT_GT(Start(), 0);
  ExpectGuarded();
  EXPECT_NE(Host(), host);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, AShimsWorkerThatDiesWithoutAServiceIsReplacedByItsKeeper) {
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const pid_t worker = Shim();
  ASSERT_GT(worker, 0);
  KillService();
  SendSignal(worker, SIGKILL);
  AwaitEnd(worker);
  ExpectGuarded();
  ASSERT_GT(Start(), 0);
  ExpectGuarded();
  EXPECT_NE(Shim(), worker);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, AStoreThatDiesIsStartedAgainWithEverything) {
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const pid_t host = Host(), store = StoreProcess();
  ASSERT_GT(store, 0);
  SendSignal(store, SIGKILL);
  AwaitEnd(store);
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  constexpr char kSaid[] = "was started again";  // when it has everything
  while (Output().find(kSaid) == std::string::npos && MonotonicNowNs() < until_ns) {
    poll(nullptr, 0, 10);
  }
  EXPECT_THAT(Output(), HasSubstr(kSaid));
  KillService();
  ASSERT_GT(Start(), 0);
  EXPECT_EQ(Host(), host);
  ExpectGuarded();
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, WithServiceAndStoreDeadNothingIsLeft) {
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const pid_t host = Host(), store = StoreProcess();
  const pid_t shim = Shim();
  SendSignal(store, SIGSTOP);  // so that it is not started again meanwhile
  KillService();
  SendSignal(store, SIGKILL);
  for (const pid_t process : {store, host, shim}) AwaitEnd(process);
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (!Opens(files_ + "/infected") && MonotonicNowNs() < until_ns) poll(nullptr, 0, 10);
  EXPECT_TRUE(Opens(files_ + "/infected"));
  ASSERT_GT(Start(), 0);  // over what the store has left of its socket
  ExpectGuarded();
  EXPECT_NE(Host(), host);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, AStopLeavesWhatItIsToldToLeave) {
  ASSERT_GT(Start(), 0);
  const pid_t host = Host();
  StoppedByCommand(" --keep", "its hosts and guards stay");
  ExpectGuarded();
  EXPECT_EQ(SendSignal(host, 0), 0);
  Write("[service]\non-stop = 'keep'\n" + Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  EXPECT_EQ(Host(), host);
  EXPECT_EQ(StopService(), 0);  // SIGTERM
  ExpectGuarded();
  ASSERT_GT(Start(), 0);
  EXPECT_EQ(Host(), host);
  StoppedByCommand(" --release", "stopped");
  EXPECT_TRUE(Opens(files_ + "/infected"));
  EXPECT_TRUE(Ends(host));
}

TEST_F(Survival, WhatIsLeftIsSeenAndCanBeEnded) {
  ASSERT_GT(Start(), 0);
  const pid_t host = Host();
  EXPECT_THAT(Run("status").text, Not(HasSubstr("serve on")));
  const Outcome refused = RunProgram("bulkheadd", "--release --config " + config_);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.text, HasSubstr("runs already"));
  KillService();
  const Outcome status = Run("status");
  EXPECT_EQ(status.code, 1);
  EXPECT_THAT(status.text, AllOf(HasSubstr(config_ + " is gone"), HasSubstr("serve on")));
  EXPECT_THAT(Run("status --json -").text, HasSubstr("\"unsupervised\": [\n"));
  ExpectGuarded();
  EXPECT_EQ(RunProgram("bulkheadd", "--release --config " + config_).code, 0);
  EXPECT_TRUE(Opens(files_ + "/infected"));
  EXPECT_TRUE(Ends(host));
  EXPECT_THAT(Run("status").text, Not(HasSubstr("serve on")));
  EXPECT_EQ(RunProgram("bulkheadd", "--release --config " + config_).code, 0);  // again
  ASSERT_GT(Start(), 0);
  ExpectGuarded();
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, TheForegroundServiceLeavesNothing) {
  const pid_t service = StartService("--driver scanner --guard " + files_);
  ASSERT_GT(service, 0);
  const Outcome stop = Run("stop --keep --pid " + std::to_string(service));
  EXPECT_NE(stop.code, 0);
  EXPECT_THAT(stop.text, HasSubstr("can't stay without it"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, OneServiceForAConfiguration) {
  ASSERT_GT(Start(), 0);
  const Outcome second = RunProgram("bulkheadd", "--config " + config_);
  EXPECT_EQ(second.code, 1);
  ExpectGuarded();
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, AnotherConfigurationIsPutInForce) {
  pid_t service = Start();
  ASSERT_GT(service, 0);
  const pid_t first = Host();
  KillService();
  // Guards come and go; the host stays.
  Write(Scanner() + GuardOf(more_));
  service = Start();
  ASSERT_GT(service, 0);
  EXPECT_EQ(Host(), first);
  EXPECT_TRUE(Opens(files_ + "/infected"));
  EXPECT_FALSE(Opens(more_ + "/infected"));
  KillService();
  // Its options are others: the same channel, another host.
  Write(Scanner() + "options = 'deny-all'\n" + GuardOf(files_));
  service = Start();
  ASSERT_GT(service, 0);
  EXPECT_NE(Host(), first);
  ExpectGuarded();
  EXPECT_TRUE(Ends(first));
  KillService();
  // Other drivers: from the beginning.
  Write(Scanner() + "[[driver]]\nname = 'null'\n" + GuardOf(files_));
  service = Start();
  ASSERT_GT(service, 0);
  ExpectGuarded();
  EXPECT_EQ(Status().at("drivers").size(), 2u);
  EXPECT_THAT(Output(), HasSubstr("its drivers or their channels were others"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, AStartThatFailsLeavesWhatServes) {
  ASSERT_GT(Start(), 0);
  const pid_t host = Host();
  KillService();
  // Its socket for metrics is another's.
  const std::string taken = folder_ + "/taken";
  fs::create_directories(taken + "/metrics/x");
  Write("[service]\nmetrics = '" + taken + "/metrics'\n" + Scanner() + GuardOf(files_));
  EXPECT_EQ(RunProgram("bulkheadd", "--config " + config_).code, 1);
  ExpectGuarded();
  EXPECT_EQ(SendSignal(host, 0), 0);
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  EXPECT_EQ(Host(), host);
  EXPECT_EQ(StopService(), 0);
}

// The shim is made anew by a service that dies meanwhile, too: what the host was attached to is
// gone.
TEST_F(Survival, AKeeperAndAServiceThatDieTogetherAreFollowedByBoth) {
  for (const int apart_ms : {0, 2, 5, 11, 20, 50}) {
    ASSERT_GT(Start(), 0);
    const pid_t keeper = ParentOf(Shim());
    ASSERT_GT(keeper, 1);
    SendSignal(keeper, SIGKILL);
    poll(nullptr, 0, apart_ms);  // any time does
    KillService();
    ASSERT_GT(Start(), 0);
    ExpectGuarded();
    EXPECT_TRUE(Opens(files_ + "/clean"));
    EXPECT_EQ(StopService(), 0);
  }
}

TEST_F(Survival, ContentIsStillPutInForceAfterReloadsWithoutAny) {
  ASSERT_GT(Start(), 0);
  EXPECT_EQ(Run("reload" + pid_).code, 0);  // makes a copy that nobody needs
  EXPECT_EQ(manager_->Await("READY=1"), "READY=1");
  KillService();
  ASSERT_GT(Start(), 0);
  std::ofstream(files_ + "/marked") << "what the new rule looks for\n";
  std::ofstream(rules_ + "/new.yar")
      << "rule new_rule { strings: $a = \"the new rule looks for\" condition: $a }\n";
  const Outcome reload = Run("reload" + pid_);
  EXPECT_EQ(reload.code, 0) << reload.text;
  EXPECT_FALSE(Opens(files_ + "/marked"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, APolicyThatWasChangedMeanwhileIsInForce) {
  ASSERT_GT(Start(), 0);
  KillService();
  Write(Scanner() +
        "options = 'other'\npolicy.absent = 'deny'\npolicy.crashed = 'deny'\npolicy.hung "
        "= 'deny'\n" +
        GuardOf(files_) + "deadline = '2s'\n");
  ASSERT_GT(Start(), 0);
  const pid_t host = Host();
  SendSignal(host,
             SIGSTOP);  // its options are others: it is a new one, in the channel that was left
  EXPECT_FALSE(Opens(files_ + "/clean"));
  EXPECT_EQ(StopService(), 0);
}

// It is in no record: not of the service, nor of the shim.
TEST_F(Survival, AGuardThatAReloadHasTakenAwayStaysAway) {
  Write(Scanner() + GuardOf(files_) + GuardOf(more_) + "deadline = '2s'\n");
  ASSERT_GT(Start(), 0);
  const pid_t host = Host();
  Write(Scanner() + GuardOf(files_) + "deadline = '3s'\n");
  ASSERT_EQ(Run("reload" + pid_).code, 0);
  for (int round = 0; round < 3; ++round) {
    SendSignal(Shim(), SIGKILL);  // the next worker goes on with the same groups
    KillService();
    manager_->Forget();
    ExpectGuarded();
    EXPECT_TRUE(Opens(more_ + "/infected"));
    ASSERT_GT(Start(), 0);
    EXPECT_THAT(Output(), Not(HasSubstr("the guards are others")));
    EXPECT_EQ(Host(), host);
    ExpectGuarded();
    EXPECT_TRUE(Opens(more_ + "/infected"));
    EXPECT_EQ(Status()["guards"].size(), 1u);
  }
  EXPECT_EQ(StopService(), 0);
}

// Whatever a reload that was cut off has set, the next service has the guards of its file, and what
// both files guard was guarded all the while.
TEST_F(Survival, AServiceThatIsKilledInAReloadIsFollowedByOneWithTheGuardsOfItsFile) {
  const std::string others = folder_ + "/others";
  for (int i = 0; i < 200; ++i) fs::create_directories(others + "/" + std::to_string(i));
  fs::copy(files_ + "/infected", others + "/infected");
  const std::string before =
      Scanner() + GuardOf(files_) + GuardOf(more_) + GuardOf(others) + "deadline = '4s'\n";
  const std::string after =
      Scanner() + GuardOf(others) + GuardOf(files_) + "deadline = '2s'\nevents = ['open']\n";
  Write(before);
  pid_t service = Start();
  ASSERT_GT(service, 0);
  std::atomic<bool> stop{false};
  std::atomic<int> opened{0};
  std::thread opener([&] {
    while (!stop.load()) {
      if (Opens(files_ + "/infected") || Opens(others + "/infected")) ++opened;
    }
  });
  const absl::Cleanup join = [&] {
    stop.store(true);
    if (opener.joinable()) opener.join();
  };
  for (int round = 0; round < 16; ++round) {
    const bool to_after = round % 2 == 0;
    Write(to_after ? after : before);
    SendSignal(service, SIGHUP);
    EXPECT_EQ(manager_->Await("RELOADING=1"), "RELOADING=1");
    poll(nullptr, 0, round * 4);  // any time does
    KillService();
    manager_->Forget();
    if (round % 4 == 3) Write(to_after ? before : after);  // it is taken back meanwhile
    const bool has_more = round % 4 == 3 ? to_after : !to_after;
    service = Start();
    ASSERT_GT(service, 0);
    EXPECT_EQ(Opens(more_ + "/infected"), !has_more) << round;
    EXPECT_EQ(Status()["guards"].size(), has_more ? 3u : 2u) << round;
  }
  stop.store(true);
  opener.join();
  EXPECT_EQ(opened.load(), 0);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, TheNextServiceGoesOnWithOptionsThatAReloadHasSet) {
  ASSERT_GT(Start(), 0);
  const pid_t first = Host();
  Write(Scanner() + "options = 'other'\n" + GuardOf(files_));
  ASSERT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_THAT(TextOf("Reloaded"), HasSubstr("the options of scanner"));
  const pid_t second = Host();
  EXPECT_NE(second, first);
  KillService();
  manager_->Forget();
  ASSERT_GT(Start(), 0);
  EXPECT_EQ(Host(), second);
  ExpectGuarded();
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Survival, DriversInAnotherOrderAreTheSame) {
  const std::string null = "[[driver]]\nname = 'null'\n";
  Write(Scanner() + null + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  const pid_t scanner = Host();
  Write(null + Scanner() + GuardOf(files_));
  ASSERT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_EQ(TextOf("Reloaded"), "reload: nothing has changed");
  KillService();
  manager_->Forget();
  ASSERT_GT(Start(), 0);
  EXPECT_THAT(Output(), Not(HasSubstr("its drivers or their channels were others")));
  EXPECT_EQ(Status()["drivers"][1]["pid"], scanner);
  ExpectGuarded();
  EXPECT_EQ(StopService(), 0);
}

// Each moment of a start, of what it goes on with, and of a host's replacement is one to die in.
TEST_F(Survival, AServiceThatIsKilledAtAnyMomentIsFollowedByOneThatServes) {
  constexpr int kRounds = 24;
  for (int round = 0; round < kRounds; ++round) {
    Begin("bulkheadd", "--config " + config_);
    poll(nullptr, 0, round * 12);  // any time does
    if (round % 3 == 2 && StoreProcess() > 0) {
      // Another thing to do at that moment.
      if (const pid_t host = Host(); host > 1) SendSignal(host, SIGKILL);
    }
    KillService();
  }
  ASSERT_GT(Start(), 0);
  ExpectGuarded();
  EXPECT_TRUE(Opens(files_ + "/clean"));
  EXPECT_EQ(StopService(), 0);
  EXPECT_TRUE(Opens(files_ + "/infected"));
}

// Which groups of the kernel's are whose is in the journal, which both services have.
TEST_F(Survival, TheNextServiceGoesOnWithTheModes) {
  const std::string infected = "/infected";
  const auto config = [&](const char* driver, const char* files, const char* more) {
    return Scanner() + "mode = '" + driver + "'\n" + GuardOf(files_) + "mode = '" + files + "'\n" +
           GuardOf(more_) + "mode = '" + more + "'\n";
  };
  Write(config("enforce", "audit", "enforce"));
  ASSERT_GT(Start(), 0);
  const pid_t host = Driver()["pid"].get<pid_t>();
  for (int i = 0; i < 2; ++i) {
    KillService();
    EXPECT_TRUE(Opens(files_ + infected)) << "by the host that no service supervises";
    EXPECT_FALSE(Opens(more_ + infected));
    ASSERT_GT(Start(), 0);
    EXPECT_EQ(Driver()["pid"], host);
    EXPECT_TRUE(Opens(files_ + infected));
    EXPECT_FALSE(Opens(more_ + infected));
  }
  // From here a reload does what it would have done in the first service.
  Write(config("enforce", "enforce", "audit"));
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_EQ(manager_->Await("RELOADING=1"), "RELOADING=1");
  EXPECT_EQ(manager_->Await("READY=1"), "READY=1");  // not of a start
  EXPECT_FALSE(Opens(files_ + infected));
  EXPECT_TRUE(Opens(more_ + infected));
  // A mode that is another one when the next service starts.
  KillService();
  Write(config("audit", "enforce", "enforce"));
  ASSERT_GT(Start(), 0);
  EXPECT_EQ(Driver()["pid"], host);
  EXPECT_TRUE(Opens(files_ + infected));
  EXPECT_TRUE(Opens(more_ + infected));
  KillService();
  Write(config("enforce", "enforce", "enforce"));
  ASSERT_GT(Start(), 0);
  EXPECT_FALSE(Opens(files_ + infected));
  EXPECT_FALSE(Opens(more_ + infected));
  EXPECT_EQ(StopService(), 0);
}

}  // namespace
}  // namespace bulkhead
