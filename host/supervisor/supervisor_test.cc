// SPDX-License-Identifier: Apache-2.0
//
// A supervisor against hosts that the test plays; real ones stand in
// tests/integration/supervisor_integration_test.cc.
#include "host/supervisor/supervisor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/log_ring_unsafe.h"
#include "ipc/monotonic.h"
#include "tests/testing/fake_host_processes.h"

namespace bulkhead {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

constexpr uint64_t kSoonNs = 30 * kNanosecondsPerSecond;

class SupervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/supervisor-test-", getpid());
    std::filesystem::create_directories(folder_ + "/run");
    std::filesystem::create_directories(folder_ + "/content");
    options_.link = shim_;
    options_.spawner = &hosts_;
    options_.run_folder = folder_ + "/run";
    options_.now_ns = MonotonicNowNs;
    options_.chance = [] { return uint64_t{0}; };
    options_.limits.drain_within_ns = kNanosecondsPerMillisecond;
  }
  void TearDown() override {
    supervisor_.reset();
    std::filesystem::remove_all(folder_);
    // A thread that the supervisor had to leave behind in the shim ends as soon as that answers,
    // and nothing else keeps the link.
    shim_->LetGo();
    options_ = {};
    const std::weak_ptr<FakeShimLink> link = std::exchange(shim_, nullptr);
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (!link.expired() && MonotonicNowNs() < until_ns) sched_yield();
    EXPECT_TRUE(link.expired());
  }
  void Start(const std::vector<std::string>& drivers, const std::string& content = "") {
    supervisor_ = std::make_unique<Supervisor>(options_);
    for (const std::string& driver : drivers) {
      DriverConfig config;
      config.manifest.name = driver;
      config.manifest.checkpoint_bytes = checkpoint_bytes_;
      config.content_folder = content;
      ASSERT_TRUE(supervisor_->AddDriver(config).ok());
    }
    ASSERT_TRUE(supervisor_->Start().ok());
  }
  absl::Status Serves(const std::string& driver, uint64_t until_ns) {
    return supervisor_->WaitUntilServing(driver, until_ns);
  }

  std::shared_ptr<FakeShimLink> shim_ = std::make_shared<FakeShimLink>();
  FakeSpawner hosts_;
  uint32_t checkpoint_bytes_ = 0;
  Supervisor::Options options_;
  std::unique_ptr<Supervisor> supervisor_;
  std::string folder_;
};

// One more than a control socket of this machine's can hold: another of its type is filled.
uint64_t PingsToFill(int socket) {
  int type = 0;
  socklen_t size = sizeof(type);
  EXPECT_EQ(getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size), 0);
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  const ControlBuffer ping = MakePing(UINT64_MAX);
  uint64_t pings = 0;
  while (send(out.get(), ping.data(), ping.size(), MSG_NOSIGNAL) == ssize_t(ping.size())) ++pings;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GT(pings, 0u);
  return pings + 1;
}

// A send that waits holds up the thread that all drivers share: a second for each of the deaf.
TEST_F(SupervisorTest, HostsThatNeverReadDelayNobodyElsesRestart) {
  constexpr int kDeaf = 12;
  constexpr uint64_t kAllWithinNs = 10 * kNanosecondsPerSecond;
  options_.heartbeat_every_ns = 1;
  options_.heartbeat_missed_ns = std::numeric_limits<uint64_t>::max();
  options_.limits.service = {.falls_max = kDeaf + 1, .first_delay_ns = 0};
  checkpoint_bytes_ = 4096;  // so that the old host leaves before the new one comes
  std::vector<std::string> names;
  for (int i = 0; i < kDeaf; ++i) names.push_back(absl::StrCat("deaf-", i));
  names.push_back("other");
  Start(names);
  std::vector<std::shared_ptr<FakeHostProcess>> deaf;
  for (int i = 0; i < kDeaf; ++i) {
    // By name: hosts are spawned when the shim has answered for their channel, in any order.
    auto host = hosts_.Attached(names[static_cast<size_t>(i)], MonotonicAfterNs(kSoonNs));
    ASSERT_TRUE(host.ok()) << host.status();
    ASSERT_TRUE((*host)->SayStarted(1).ok());
    ASSERT_TRUE(Serves(names[static_cast<size_t>(i)], MonotonicAfterNs(kSoonNs)).ok());
    deaf.push_back(*std::move(host));
  }
  auto other = hosts_.Attached("other", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(other.ok()) << other.status();
  ASSERT_TRUE((*other)->SayStarted((*other)->generation).ok());
  // Each ping that this one hears was sent to all.
  for (uint64_t left = PingsToFill((*other)->control.fd()); left > 0;) {
    const auto message = (*other)->control.Receive(MonotonicAfterNs(kSoonNs));
    ASSERT_TRUE(message.ok()) << message.status();
    if (message->as<wire::Ping>() != nullptr) --left;
  }

  const uint64_t until_ns = MonotonicAfterNs(kAllWithinNs);
  for (int i = 0; i < kDeaf; ++i) {
    (void)supervisor_->SetContent(names[static_cast<size_t>(i)], folder_ + "/content",
                                  0);  // drains
    (*other)->Die();
    other = hosts_.Attached("other", until_ns);
    ASSERT_TRUE(other.ok()) << other.status() << ", after drain " << i;
    ASSERT_TRUE((*other)->SayStarted((*other)->generation).ok());
    ASSERT_TRUE(Serves("other", until_ns).ok()) << "after drain " << i;
  }
  // What could not be asked to leave was killed, and has a successor.
  for (int i = 0; i < kDeaf; ++i) {
    const auto next = hosts_.Attached(names[static_cast<size_t>(i)], MonotonicAfterNs(kSoonNs));
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ((*next)->generation, 2u);
  }
}

// It says how often it has slept; no other thread runs it.
TEST_F(SupervisorTest, AHostThatHasSleptSinceItsAnswerIsNotAskedAgain) {
  // The supervisor ends behind the test. What it sees: time on top of that which passes by itself.
  const auto beats_ns = std::make_shared<std::atomic<uint64_t>>(0);
  const auto logged = std::make_shared<std::atomic<bool>>(false);
  options_.heartbeat_every_ns = 3600 * kNanosecondsPerSecond;
  options_.heartbeat_missed_ns = std::numeric_limits<uint64_t>::max();
  options_.now_ns = [beats_ns] { return MonotonicNowNs() + beats_ns->load(); };
  options_.on_event = [logged](const DriverEvent& event) {
    if (event.kind == DriverEventKind::kLog && event.text == "answered") *logged = true;
  };
  Start({"quiet"});
  auto host = hosts_.Attached("quiet", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  (*host)->sleeps = 5;
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("quiet", MonotonicAfterNs(kSoonNs)).ok());
  // One heartbeat: it has looked at the sleeps, and has pinged by the next time that it looks.
  const auto beat = [&] {
    const uint64_t asked = (*host)->sleeps_asked, until_ns = MonotonicAfterNs(kSoonNs);
    *beats_ns += options_.heartbeat_every_ns;
    (void)supervisor_->LiftQuarantine("quiet", 0);  // wakes its thread; nothing is quarantined
    while ((*host)->sleeps_asked == asked && MonotonicNowNs() < until_ns) sched_yield();
    return (*host)->sleeps_asked > asked;
  };
  ASSERT_TRUE(beat());
  auto ping = (*host)->control.Receive(MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(ping.ok() && ping->as<wire::Ping>() != nullptr) << ping.status();
  (*host)->sleeps = 6;
  ASSERT_TRUE((*host)->control.Send(MakePong(ping->as<wire::Ping>()->number(), 0, 0)).ok());
  ASSERT_TRUE((*host)->control.Send(MakeLogLine(wire::LogLevel::Info, "answered")).ok());
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (!*logged && MonotonicNowNs() < until_ns) sched_yield();
  ASSERT_TRUE(*logged);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(beat());
  EXPECT_TRUE(absl::IsDeadlineExceeded((*host)->control.Receive(0).status())) << "it was asked";
  (*host)->sleeps = 7;  // it has run, for whatever reason
  ASSERT_TRUE(beat());
  ping = (*host)->control.Receive(MonotonicAfterNs(kSoonNs));
  EXPECT_TRUE(ping.ok() && ping->as<wire::Ping>() != nullptr) << ping.status();
}

// Both by what it holds and by what the kernel says.
TEST_F(SupervisorTest, AHostThatIsEndingIsReplacedBeforeItHasEnded) {
  Start({"early"});
  auto host = hosts_.Attached("early", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  std::promise<void> held, leave;
  std::thread worker([&] {
    EXPECT_TRUE((*host)->life_line->Hold(0).ok());
    held.set_value();
    leave.get_future().wait();
  });
  held.get_future().wait();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("early", MonotonicAfterNs(kSoonNs)).ok());
  (*host)->is_ending = true;
  leave.set_value();
  worker.join();
  auto next = hosts_.Attached("early", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ((*next)->generation, 2u);
  EXPECT_EQ(supervisor_->Status().drivers[0].last_end, "as it was ending");
}

// Its lines are the host's word, and a thread of its may sit in a call of the kernel's that writes
// over its answers when it ends.
TEST_F(SupervisorTest, NoHostServesWhileTheOneBeforeItMayStillWrite) {
  Start({"stuck"});
  auto host = hosts_.Attached("stuck", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  (*host)->hangs = true;
  (*host)->is_ending = true;
  std::thread([&] { EXPECT_TRUE((*host)->life_line->Hold(0).ok()); }).join();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  auto second = hosts_.Attached("stuck", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_TRUE((*second)->SayStarted(2).ok());
  auto third = hosts_.Attached("stuck", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_NE(supervisor_->Status().drivers[0].state, "serving");
  (*host)->hangs = false;
  ASSERT_TRUE((*third)->SayStarted(3).ok());
  EXPECT_TRUE(Serves("stuck", MonotonicAfterNs(kSoonNs)).ok());
  (*host)->Die();
}

// Of kinds that a host may send, and more of them than a supervisor can take in.
TEST_F(SupervisorTest, AHostThatSendsWithoutAPauseDelaysNoOther) {
  Start({"talker", "other"});
  const auto serving = [&](const std::string& driver) {
    auto host = hosts_.Attached(driver, MonotonicAfterNs(kSoonNs));
    if (!host.ok() || !(*host)->SayStarted((*host)->generation).ok())
      return std::shared_ptr<FakeHostProcess>();
    return Serves(driver, MonotonicAfterNs(kSoonNs)).ok() ? *std::move(host) : nullptr;
  };
  auto talker = serving("talker");
  auto other = serving("other");
  ASSERT_TRUE(talker != nullptr && other != nullptr);
  std::atomic<bool> enough{false};
  std::thread talks([&] {
    const ControlBuffer line = MakeLogLine(wire::LogLevel::Info, "and so on");
    while (!enough.load()) (void)talker->control.Send(line, {}, MonotonicAfterNs(kSoonNs));
  });
  for (int i = 0; i < 3; ++i) {
    other->Die();
    other = serving("other");
    EXPECT_NE(other, nullptr);
    if (other == nullptr) break;
  }
  enough.store(true);
  talks.join();
}

// A host that sends them without a pause would keep its supervisor busy.
TEST_F(SupervisorTest, WhatNoHostHasToSayIsAViolation) {
  Start({"liar"});
  for (const ControlBuffer& message : {MakePong(12345, 0, 0), MakePing(1), MakeGetStatus()}) {
    auto host = hosts_.Attached("liar", MonotonicAfterNs(kSoonNs));
    ASSERT_TRUE(host.ok()) << host.status();
    ASSERT_TRUE((*host)->SayStarted((*host)->generation).ok());
    ASSERT_TRUE(Serves("liar", MonotonicAfterNs(kSoonNs)).ok());
    ASSERT_TRUE((*host)->control.Send(message).ok());
  }
  EXPECT_TRUE(hosts_.Attached("liar", MonotonicAfterNs(kSoonNs)).ok());
}

TEST_F(SupervisorTest, APolicyIsInForceOrTheShimIsSilent) {
  Start({"driver"});
  auto host = hosts_.Attached("driver", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayStarted((*host)->generation).ok());
  ASSERT_TRUE(Serves("driver", MonotonicAfterNs(kSoonNs)).ok());
  bh_policy denies = DefaultPolicy();
  for (auto& rules : denies.rule) rules[BH_REASON_ABSENT] = {BH_ACTION_DENY, BH_ACTION_DENY};
  EXPECT_TRUE(supervisor_->SetPolicy("driver", denies, MonotonicAfterNs(kSoonNs)).ok());
  EXPECT_TRUE(absl::IsNotFound(supervisor_->SetPolicy("other", denies, MonotonicAfterNs(kSoonNs))));
  EXPECT_TRUE(supervisor_->Turns(MonotonicAfterNs(kSoonNs)));
  shim_->HoldAll();
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      supervisor_->SetPolicy("driver", denies, MonotonicAfterNs(kNanosecondsPerMillisecond))));
  EXPECT_TRUE(supervisor_->Turns(MonotonicAfterNs(kSoonNs))) << "the loop waits for no shim";
  shim_->LetGo();
}

TEST_F(SupervisorTest, ADescriptorOfAHostIsNotOpened) {
  Start({"giver"});
  auto host = hosts_.Attached("giver", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("giver", MonotonicAfterNs(kSoonNs)).ok());
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  ASSERT_TRUE((*host)->control.Send(MakePong(1, 0, 0), {in.get()}).ok());
  in.reset();
  auto next = hosts_.Attached("giver", MonotonicAfterNs(kSoonNs));
  EXPECT_TRUE(next.ok()) << next.status();  // a host that sends one is hostile
  pollfd end = {out.get(), POLLIN, 0};
  EXPECT_EQ(poll(&end, 1, static_cast<int>(kSoonNs / kNanosecondsPerMillisecond)), 1);
}

TEST_F(SupervisorTest, OptionsThatAHostCantBeToldAreRefused) {
  supervisor_ = std::make_unique<Supervisor>(options_);
  DriverConfig config;
  config.manifest.name = "talkative";
  config.manifest.options = std::string(kControlTextBytesMax - 5, 'a');
  config.options = "strict";
  const absl::Status status = supervisor_->AddDriver(config);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST_F(SupervisorTest, AHostThatOnlyLetsItsLineGoIsNotReplaced) {
  Start({"alive"});
  auto host = hosts_.Attached("alive", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  std::thread([&] { EXPECT_TRUE((*host)->life_line->Hold(0).ok()); }).join();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("alive", MonotonicAfterNs(kSoonNs)).ok());
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while ((*host)->ending_asked == 0) {
    ASSERT_LT(MonotonicNowNs(), until_ns) << "nobody asked how it ends";
    std::this_thread::yield();
  }
  (*host)->Die();
  auto next = hosts_.Attached("alive", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(supervisor_->Status().drivers[0].last_end, "signal 11");
}

TEST_F(SupervisorTest, ShowsTheSandboxThatAHostHadBeforeItsDriver) {
  std::mutex mutex;
  std::vector<std::string> told;
  options_.on_event = [&](const DriverEvent& event) {
    if (event.kind != DriverEventKind::kSandboxLacks) return;
    const std::lock_guard<std::mutex> lock(mutex);
    told.push_back(event.text);
  };
  options_.limits.service = {.falls_max = 10, .first_delay_ns = 0};
  checkpoint_bytes_ = 4096;
  Start({"boxed"});
  const uint32_t confined = bh_sandbox_layers_of(BH_SANDBOX_CONFINED);
  for (int life = 0; life < 2; ++life) {
    auto host = hosts_.Attached("boxed", MonotonicAfterNs(kSoonNs));
    ASSERT_TRUE(host.ok()) << host.status();
    ASSERT_TRUE((*host)->SaySandboxed(confined, {"resources: none here"}).ok());
    ASSERT_TRUE((*host)->SaySandboxed(BH_LAYERS_ALL).ok()) << "as its driver would";
    ASSERT_TRUE((*host)->SayStarted((*host)->generation).ok());
    ASSERT_TRUE(Serves("boxed", MonotonicAfterNs(kSoonNs)).ok());
    const DriverStatusFields driver = supervisor_->Status().drivers[0];
    EXPECT_EQ(driver.sandbox_layers, confined);
    EXPECT_EQ(driver.sandbox_lacks, std::vector<std::string>{"resources: none here"});
    (*host)->Die();
    while (supervisor_->HostPid("boxed") > 0 && supervisor_->Status().drivers[0].restarts == 0) {
      std::this_thread::yield();
    }
  }
  const std::lock_guard<std::mutex> lock(mutex);
  EXPECT_EQ(told, std::vector<std::string>{"level confined; it lacks resources: none here"})
      << "once, for both lives";
}

TEST_F(SupervisorTest, AHostBelowTheRequiredSandboxIsHostile) {
  for (const uint32_t layers : {0u, bh_sandbox_layers_of(BH_SANDBOX_BASIC)}) {
    options_.sandbox_required = BH_SANDBOX_CONFINED;
    options_.limits.start = {.falls_max = 1};
    Start({"open"});
    auto host = hosts_.Attached("open", MonotonicAfterNs(kSoonNs));
    ASSERT_TRUE(host.ok()) << host.status();
    if (layers != 0) {
      ASSERT_TRUE((*host)->SaySandboxed(layers).ok());
    }
    ASSERT_TRUE((*host)->SayStarted(1).ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(Serves("open", MonotonicAfterNs(kSoonNs))));
    supervisor_->Stop();
  }
}

TEST_F(SupervisorTest, AHostThatTakesNoAttachFailsToStart) {
  options_.limits.start = {.falls_max = 1};
  Start({"gone"});
  auto host = hosts_.Next(MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_EQ(shutdown((*host)->control.fd(), SHUT_RD), 0);
  ASSERT_TRUE((*host)->SayHello().ok());
  const absl::Status status = Serves("gone", MonotonicAfterNs(kSoonNs));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("took no Attach"));
}

// Its hosts know copies, which are gone when the message about them is read.
TEST_F(SupervisorTest, NamesContentAsTheOperatorDoes) {
  std::vector<std::string> said;  // the supervisor's thread's, until it is gone
  std::vector<DriverEvent> rolled_back;
  options_.on_event = [&](const DriverEvent& event) {
    said.push_back(event.text);
    if (event.kind == DriverEventKind::kRolledBack) rolled_back.push_back(event);
  };
  const std::string first = folder_ + "/content";
  const std::string second = folder_ + "/second";
  std::filesystem::create_directories(second);
  const std::string copies = options_.run_folder + "/content-reader/";
  Start({"reader"}, first);
  auto host = hosts_.Attached("reader", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("reader", MonotonicAfterNs(kSoonNs)).ok());
  (*host)->Write("can't read " + copies + "1/a and " + copies + "1\n");
  (*host)->Die();
  host = hosts_.Attached("reader", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_THAT(supervisor_->Status().drivers[0].last_end,
              HasSubstr("can't read " + first + "/a and " + first));
  EXPECT_EQ(supervisor_->Status().drivers[0].content_path, first);

  ASSERT_TRUE((*host)->SayStarted(2).ok());
  ASSERT_TRUE(Serves("reader", MonotonicAfterNs(kSoonNs)).ok());
  auto put = std::async(std::launch::async, [&] {
    return supervisor_->SetContent("reader", second, MonotonicAfterNs(kSoonNs));
  });
  host = hosts_.Attached("reader", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_EQ(supervisor_->Status().drivers[0].content_path, first) << "until it serves";
  const std::string nonsense = copies + "2/b: nonsense";
  ASSERT_TRUE((*host)->control.Send(MakeLogLine(wire::LogLevel::Warning, nonsense)).ok());
  ASSERT_TRUE((*host)->control.Send(MakeStartFailed((*host)->generation, nonsense)).ok());
  (*host)->Die();
  const std::string named = second + "/b: nonsense";
  EXPECT_THAT(std::string(put.get().status().message()), HasSubstr(named));
  EXPECT_EQ(supervisor_->Status().drivers[0].restarts, 1u) << "the old host was not touched";
  supervisor_.reset();
  EXPECT_THAT(said, Contains(named));
  ASSERT_EQ(rolled_back.size(), 1u);
  EXPECT_EQ(rolled_back[0].content, 2u);
  EXPECT_EQ(rolled_back[0].good_content, 1u);
  EXPECT_EQ(rolled_back[0].text, named);
  EXPECT_THAT(said, Each(Not(HasSubstr(copies))));
}

TEST_F(SupervisorTest, CopiesOfContentThatFailedDoNotPileUp) {
  Start({"reader"}, folder_ + "/content");
  auto host = hosts_.Attached("reader", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("reader", MonotonicAfterNs(kSoonNs)).ok());
  const auto copies = [this] {
    std::set<std::string> names;
    for (const auto& copy :
         std::filesystem::directory_iterator(options_.run_folder + "/content-reader")) {
      names.insert(copy.path().filename().string());
    }
    return names;
  };
  for (int failed = 2; failed < 7; ++failed) {
    auto put = std::async(std::launch::async, [&] {
      return supervisor_->SetContent("reader", folder_ + "/content", MonotonicAfterNs(kSoonNs));
    });
    host = hosts_.Attached("reader", MonotonicAfterNs(kSoonNs));
    ASSERT_TRUE(host.ok()) << host.status();
    EXPECT_EQ(copies(), (std::set<std::string>{"1", std::to_string(failed)}));
    ASSERT_TRUE((*host)->control.Send(MakeStartFailed((*host)->generation, "bad")).ok());
    (*host)->Die();
    EXPECT_FALSE(put.get().ok());
  }
}

TEST_F(SupervisorTest, TheHostOfNewContentStartsBesideTheOneThatServes) {
  Start({"slow"}, folder_ + "/content");
  auto old = hosts_.Attached("slow", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_FALSE((*old)->standby);
  ASSERT_TRUE((*old)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("slow", MonotonicAfterNs(kSoonNs)).ok());
  auto put = std::async(std::launch::async, [&] {
    return supervisor_->SetContent("slow", folder_ + "/content", MonotonicAfterNs(kSoonNs));
  });
  auto next = hosts_.Attached("slow", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE((*next)->standby);
  const DriverStatusFields meanwhile = supervisor_->Status().drivers[0];
  EXPECT_EQ(meanwhile.state, "serving");
  EXPECT_EQ(meanwhile.generation, 1u);
  EXPECT_EQ(meanwhile.protection.level, BH_PROTECTION_FULL);
  EXPECT_EQ(meanwhile.content_loading, meanwhile.content_version + 1);
  ASSERT_TRUE((*next)->SayReady().ok());
  ASSERT_TRUE((*next)->ReadServe(MonotonicAfterNs(kSoonNs)).ok());
  EXPECT_EQ((*next)->generation, 3u);
  ASSERT_TRUE((*next)->SayStarted(3).ok());
  const auto version = put.get();
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(supervisor_->Status().drivers[0].content_version, *version);
  EXPECT_EQ(supervisor_->Status().drivers[0].content_loading, 0u);
  // Its death is noticed as that of any other.
  (*next)->Die();
  EXPECT_TRUE(hosts_.Attached("slow", MonotonicAfterNs(kSoonNs)).ok());
}

// The next one's answers could be written over.
TEST_F(SupervisorTest, AStandbyServesWhenNoThreadOfTheOldHostIsLeft) {
  Start({"slow"}, folder_ + "/content");
  auto old = hosts_.Attached("slow", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(old.ok()) << old.status();
  std::promise<void> held, leave;
  std::thread worker([&] {
    EXPECT_TRUE((*old)->life_line->Hold(0).ok());
    held.set_value();
    leave.get_future().wait();
  });
  held.get_future().wait();
  ASSERT_TRUE((*old)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("slow", MonotonicAfterNs(kSoonNs)).ok());
  auto put = std::async(std::launch::async, [&] {
    return supervisor_->SetContent("slow", folder_ + "/content", MonotonicAfterNs(kSoonNs));
  });
  auto next = hosts_.Attached("slow", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(next.ok()) << next.status();
  (*old)->hangs = true;
  (*old)->is_ending = true;
  ASSERT_TRUE((*next)->SayReady().ok());
  leave.set_value();
  worker.join();
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (supervisor_->Status().drivers[0].state != "awaiting serve") {
    ASSERT_LT(MonotonicNowNs(), until_ns) << supervisor_->Status().drivers[0].state;
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded((*next)->control.Receive(0).status())) << "it was told";
  (*old)->hangs = false;
  ASSERT_TRUE((*next)->ReadServe(MonotonicAfterNs(kSoonNs)).ok());
  ASSERT_TRUE((*next)->SayStarted((*next)->generation).ok());
  EXPECT_TRUE(put.get().ok());
  (*old)->Die();
}

TEST_F(SupervisorTest, AShimThatIsNotThereAtATakeoverTakesNoContentBack) {
  Start({"slow"}, folder_ + "/content");
  auto host = hosts_.Attached("slow", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("slow", MonotonicAfterNs(kSoonNs)).ok());
  auto put = std::async(std::launch::async, [&] {
    return supervisor_->SetContent("slow", folder_ + "/content", MonotonicAfterNs(kSoonNs));
  });
  host = hosts_.Attached("slow", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  shim_->absent_channels = 2;  // and at the host after it
  ASSERT_TRUE((*host)->SayReady().ok());
  host = hosts_.Attached("slow", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_FALSE((*host)->standby);
  ASSERT_TRUE((*host)->SayStarted((*host)->generation).ok());
  const auto version = put.get();
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(supervisor_->Status().drivers[0].content_version, *version);
}

TEST_F(SupervisorTest, AStandbyThatServesUnaskedOrIsNoneIsHostile) {
  std::atomic<int> bad = 0;
  options_.on_event = [&bad](const DriverEvent& event) {
    if (event.kind == DriverEventKind::kBadMessage) ++bad;
  };
  Start({"liar"}, folder_ + "/content");
  auto host = hosts_.Attached("liar", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayReady().ok());
  host = hosts_.Attached("liar", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_EQ(bad, 1);
  ASSERT_TRUE((*host)->SayStarted(2).ok());
  ASSERT_TRUE(Serves("liar", MonotonicAfterNs(kSoonNs)).ok());
  auto put = std::async(std::launch::async, [&] {
    return supervisor_->SetContent("liar", folder_ + "/content", MonotonicAfterNs(kSoonNs));
  });
  auto standby = hosts_.Attached("liar", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(standby.ok()) << standby.status();
  ASSERT_TRUE((*standby)->SayStarted((*standby)->generation).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(put.get().status()));
  EXPECT_EQ(bad, 2);
  EXPECT_EQ(supervisor_->Status().drivers[0].generation, 2u) << "the old host serves on";
}

TEST_F(SupervisorTest, SaysWhatAFallenHostWroteLast) {
  Start({"talker"});
  auto host = hosts_.Attached("talker", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  (*host)->Write("before\n\x1b[2Jlast\x07 words\n\n");
  (*host)->Die();
  ASSERT_TRUE(hosts_.Attached("talker", MonotonicAfterNs(kSoonNs)).ok());
  EXPECT_EQ(supervisor_->Status().drivers[0].last_end, "signal 11; it last wrote: ?[2Jlast? words");
}

// Whatever it wrote is told as it comes, and what has no end at the latest when it has died; what
// it had logged and not sent is in the memory that it had.
TEST_F(SupervisorTest, WhatAHostSaidBeforeItsEndIsToldBeforeItsEnd) {
  std::vector<DriverEvent> events;
  options_.on_event = [&](const DriverEvent& event) { events.push_back(event); };
  Start({"talker"});
  auto host = hosts_.Attached("talker", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("talker", MonotonicAfterNs(kSoonNs)).ok());
  LogRing ring({(*host)->log_memory->data(), LogRing::kBytes});
  ring.Put(1, 5, "sent");
  ring.Put(3, 6, "not sent");
  for (size_t i = 0; i < LogRing::kLinesMax; ++i) ring.Put(0, 7, "");
  ASSERT_TRUE((*host)->control.Send(MakeLogLine(wire::LogLevel::Info, "sent", 1, 5, 0)).ok());
  (*host)->Write("whole\nhalf");
  (*host)->Die();
  ASSERT_TRUE(hosts_.Attached("talker", MonotonicAfterNs(kSoonNs)).ok());
  supervisor_.reset();
  std::vector<std::string> said;
  for (const DriverEvent& event : events) {
    if (event.text.empty() && event.kind == DriverEventKind::kLog) continue;
    said.push_back(absl::StrCat(DriverEventKindName(event.kind), " ", event.text, " ",
                                event.time_ns, " ", event.number));
    if (event.kind == DriverEventKind::kEnded) break;
  }
  EXPECT_THAT(said, IsSupersetOf({"Log sent 5 0", "Log not sent 6 0", "LogDropped  0 2",
                                  "Wrote whole 0 0", "Wrote half 0 0"}));
  EXPECT_EQ(std::count(said.begin(), said.end(), "Log sent 5 0"), 1);
  EXPECT_EQ(said.back().substr(0, 5), "Ended");
}

// A report of an end was made when the next generation had its number already.
TEST_F(SupervisorTest, TheReportOfAnEndNamesTheGenerationThatEnded) {
  std::vector<DriverEvent> ends;
  options_.on_event = [&ends](const DriverEvent& event) {
    if (event.kind == DriverEventKind::kEnded) ends.push_back(event);
  };
  Start({"mortal"});
  auto host = hosts_.Attached("mortal", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("mortal", MonotonicAfterNs(kSoonNs)).ok());
  const pid_t pid = supervisor_->HostPid("mortal");
  (*host)->Die();
  ASSERT_TRUE(hosts_.Next(MonotonicAfterNs(kSoonNs)).ok());
  supervisor_->Stop();
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(ends[0].generation, 1u);
  EXPECT_EQ(ends[0].pid, pid);
  EXPECT_EQ(ends[0].end, BH_END_CRASHED);
}

// It serves all the while: nothing else would show that opens pass unasked.
TEST_F(SupervisorTest, CallsThatAreLetThroughDegradeProtectionAndAreTold) {
  std::atomic<uint32_t> told = 0;
  options_.on_event = [&told](const DriverEvent& event) {
    if (event.kind == DriverEventKind::kLetThrough) told += event.number;
  };
  shim_->let_through = 100;  // before its time: of a channel that is older than this supervisor
  Start({"full"});
  auto host = hosts_.Attached("full", MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(host.ok()) << host.status();
  ASSERT_TRUE((*host)->SayStarted(1).ok());
  ASSERT_TRUE(Serves("full", MonotonicAfterNs(kSoonNs)).ok());
  const auto protection = [this] { return supervisor_->Status().drivers[0].protection; };
  EXPECT_EQ(protection().level, BH_PROTECTION_FULL);
  shim_->let_through = 103;
  for (int looked = 0; looked < 2; ++looked) {
    const ProtectionFields degraded = protection();
    EXPECT_EQ(degraded.level, BH_PROTECTION_DEGRADED);
    EXPECT_THAT(degraded.reasons,
                Contains(HasSubstr("calls let through without its decision: 3, the last ")));
  }
  supervisor_->Stop();
  EXPECT_EQ(told, 3u);
}

// ---- A shim that is slow, or never answers

class DeafShimTest : public SupervisorTest {
 protected:
  // Answers Started; the driver serves.
  std::shared_ptr<FakeHostProcess> Serving(const std::string& driver) {
    auto host = hosts_.Attached(driver, MonotonicAfterNs(kSoonNs));
    EXPECT_TRUE(host.ok()) << host.status();
    if (!host.ok()) return nullptr;
    EXPECT_TRUE((*host)->SayStarted((*host)->generation).ok());
    EXPECT_TRUE(Serves(driver, MonotonicAfterNs(kSoonNs)).ok());
    return *std::move(host);
  }
  static bool IsPinged(FakeHostProcess& host) {
    for (;;) {
      const auto message = host.control.Receive(MonotonicAfterNs(kSoonNs));
      if (!message.ok()) return false;
      if (message->as<wire::Ping>() != nullptr) return true;
    }
  }
};

TEST_F(DeafShimTest, ARequestOfOneDriverDelaysNoOther) {
  options_.heartbeat_every_ns = kNanosecondsPerMillisecond;
  options_.heartbeat_missed_ns = std::numeric_limits<uint64_t>::max();
  options_.limits.service = {.falls_max = 100, .first_delay_ns = 0};
  Start({"deaf", "other"});
  auto deaf = Serving("deaf");
  auto other = Serving("other");
  ASSERT_TRUE(deaf != nullptr && other != nullptr);
  shim_->Hold(0);
  deaf->Die();
  ASSERT_TRUE(shim_->WaitUntilHeld(MonotonicAfterNs(kSoonNs)));
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(IsPinged(*other));
    other->Die();
    other = Serving("other");
    ASSERT_NE(other, nullptr);
  }
  StatusFields status = supervisor_->Status();
  EXPECT_GT(status.drivers[0].shim_silent_ms, 0u);
  EXPECT_EQ(status.drivers[0].state, "awaiting spawn");
  EXPECT_EQ(status.drivers[1].shim_silent_ms, 0u);
  EXPECT_EQ(status.drivers[1].state, "serving");
  shim_->LetGo();
  EXPECT_NE(Serving("deaf"), nullptr);
  EXPECT_EQ(supervisor_->Status().drivers[0].shim_silent_ms, 0u);
}

// Nothing of the link answers: hosts are still pinged, found hung, killed and reaped, and a stop
// ends.
TEST_F(DeafShimTest, HeartbeatsKillsAndStopGoOn) {
  options_.heartbeat_every_ns = kNanosecondsPerMillisecond;
  options_.heartbeat_missed_ns = std::numeric_limits<uint64_t>::max();
  std::promise<uint32_t> ended;
  std::atomic<bool> set = false;
  options_.on_event = [&](const DriverEvent& event) {
    if (event.kind == DriverEventKind::kEnded && event.driver == "mortal" && !set.exchange(true)) {
      ended.set_value(event.generation);
    }
  };
  Start({"mortal", "other"});
  auto mortal = Serving("mortal");
  auto other = Serving("other");
  ASSERT_TRUE(mortal != nullptr && other != nullptr);
  shim_->HoldAll();
  // An invalid message is hostile: the host is killed, and its exit seen.
  ASSERT_EQ(send(mortal->control.fd(), "nonsense", 8, MSG_NOSIGNAL), 8);
  auto end = ended.get_future();
  ASSERT_EQ(end.wait_for(std::chrono::nanoseconds(kSoonNs)), std::future_status::ready);
  EXPECT_EQ(end.get(), 1u);
  ASSERT_TRUE(shim_->WaitUntilHeld(MonotonicAfterNs(kSoonNs)));
  EXPECT_TRUE(IsPinged(*other));
  const StatusFields status = supervisor_->Status();
  EXPECT_GT(status.drivers[0].shim_silent_ms, 0u);
  EXPECT_GT(status.drivers[1].shim_silent_ms, 0u) << "its statistics were asked for";
  supervisor_->Stop();  // bounded: the shim has still not answered
  supervisor_.reset();
  EXPECT_GE(shim_.use_count(), 3) << "the test's two and those of the requests without answer";
}

TEST_F(DeafShimTest, ASilentShimIsReportedAndItsAnswerToo) {
  const auto ahead_ns = std::make_shared<std::atomic<uint64_t>>(0);
  options_.now_ns = [ahead_ns] { return MonotonicNowNs() + ahead_ns->load(); };
  options_.heartbeat_missed_ns = std::numeric_limits<uint64_t>::max();
  std::atomic<int> silent = 0, answers = 0;
  options_.on_event = [&](const DriverEvent& event) {
    if (event.driver != "deaf") return;
    if (event.kind == DriverEventKind::kShimSilent) ++silent;
    if (event.kind == DriverEventKind::kShimAnswers) ++answers;
  };
  Start({"deaf"});
  auto host = Serving("deaf");
  ASSERT_NE(host, nullptr);
  shim_->Hold(0);
  host->Die();
  ASSERT_TRUE(shim_->WaitUntilHeld(MonotonicAfterNs(kSoonNs)));
  const auto await = [&](const std::atomic<int>& count) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (count == 0 && MonotonicNowNs() < until_ns) {
      *ahead_ns += kNanosecondsPerSecond;
      (void)supervisor_->LiftQuarantine("deaf", 0);  // wakes the loop; nothing is quarantined
      sched_yield();
    }
    return count.load();
  };
  EXPECT_EQ(await(silent), 1);
  EXPECT_EQ(answers, 0);
  shim_->LetGo();
  EXPECT_EQ(await(answers), 1);
  EXPECT_EQ(silent, 1);
}

TEST_F(DeafShimTest, ADriverServesOnlyWhenTheShimHasBegunIt) {
  std::vector<DriverEventKind> kinds;
  options_.on_event = [&](const DriverEvent& event) { kinds.push_back(event.kind); };
  options_.limits.begin_again_ns = 1;
  shim_->absent_begins = 3;
  Start({"late"});
  auto host = Serving("late");
  ASSERT_NE(host, nullptr);
  EXPECT_EQ(shim_->absent_begins, 0);
  host->Die();
  host = Serving("late");
  ASSERT_NE(host, nullptr);
  EXPECT_EQ(host->generation, 2u) << "a shim that is not there is not the host's fault";
  supervisor_->Stop();
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), DriverEventKind::kServing), 2);
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), DriverEventKind::kBeginFailed), 1);
  EXPECT_EQ(supervisor_->Recoveries("late").size(), 1u);
}

}  // namespace
}  // namespace bulkhead
