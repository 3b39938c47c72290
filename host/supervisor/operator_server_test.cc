// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/operator_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/supervisor/supervisor.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "ipc/unique_fd.h"
#include "tests/testing/fake_host_processes.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kSoonNs = 30 * kNanosecondsPerSecond;

std::string DriverName(int number) { return absl::StrCat("driver-", number); }

class OperatorServerTest : public ::testing::Test {
 protected:
  static constexpr int kDrivers = OperatorServer::kWaitingMax + 1;

  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/operator-server-test-", getpid());
    std::filesystem::create_directories(folder_ + "/run");
    std::filesystem::create_directories(folder_ + "/content");
    Supervisor::Options options;
    options.link = shim_;
    options.spawner = &hosts_;
    options.run_folder = folder_ + "/run";
    options.now_ns = MonotonicNowNs;
    options.chance = [] { return uint64_t{0}; };
    options.limits.drain_within_ns = kNanosecondsPerMillisecond;
    supervisor_ = std::make_unique<Supervisor>(std::move(options));
    for (int i = 0; i < kDrivers; ++i) {
      DriverConfig config;
      config.manifest.name = DriverName(i);
      ASSERT_TRUE(supervisor_->AddDriver(config).ok());
    }
    ASSERT_TRUE(supervisor_->Start().ok());
    for (int i = 0; i < kDrivers; ++i) {
      auto host = hosts_.Attached(DriverName(i), MonotonicAfterNs(kSoonNs));
      ASSERT_TRUE(host.ok()) << host.status();
      ASSERT_TRUE((*host)->SayStarted((*host)->generation).ok());
      ASSERT_TRUE(supervisor_->WaitUntilServing(DriverName(i), MonotonicAfterNs(kSoonNs)).ok());
      serving_.push_back(*std::move(host));
    }
    Listen(kSoonNs);
  }
  void Listen(uint64_t request_within_ns) {
    server_.reset();
    auto server = OperatorServer::Listen(
        Path(), supervisor_.get(),
        {.complete = [](StatusFields& status) { status.guards = {{.folder = "/guarded"}}; },
         .shut_down =
             [this](HostsAtStop hosts) {
               shut_downs_.fetch_add(1);
               hosts_at_stop_ = hosts;
               return hosts == HostsAtStop::kStay ? absl::FailedPreconditionError("can't stay")
                                                  : absl::OkStatus();
             },
         .reload = [this] { return reload_; },
         .events =
             [](uint64_t after) {
               return EventsFields{.events = {{.sequence = after + 1, .kind = "Serving"}},
                                   .newest = after + 1};
             }},
        request_within_ns);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void TearDown() override {
    supervisor_->Stop();
    for (std::thread& thread : operators_) thread.join();
    server_.reset();
    supervisor_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::string Path() const { return folder_ + "/socket"; }

  // What the answer says is wrong; "" for done.
  std::string Ask(const ControlBuffer& request) {
    const absl::StatusOr<ControlMessage> answer = AskInstance(Path(), request);
    if (!answer.ok()) return std::string(answer.status().message());
    const auto* done = answer->as<wire::Done>();
    if (done == nullptr) return absl::StrCat("answered with ", answer->name());
    return done->error() != nullptr ? done->error()->str() : "";
  }
  std::string GiveContent(int number) {
    return Ask(MakeSetContent(DriverName(number), folder_ + "/content"));
  }
  // An operator gives the first `count` drivers content, whose hosts then do not get ready.
  void GiveSlowContent(int count) {
    answers_.resize(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) {
      operators_.emplace_back(
          [this, i, answer = &answers_[static_cast<size_t>(i)]] { *answer = GiveContent(i); });
    }
    for (int i = 0; i < count; ++i) {
      auto host = hosts_.Attached(DriverName(i), MonotonicAfterNs(kSoonNs));
      ASSERT_TRUE(host.ok()) << host.status();
      starting_.push_back(*std::move(host));
    }
  }
  void LetServe(FakeHostProcess& host) {
    ASSERT_TRUE(host.SayReady().ok());
    ASSERT_TRUE(host.ReadServe(MonotonicAfterNs(kSoonNs)).ok());
    ASSERT_TRUE(host.SayStarted(host.generation).ok());
  }
  void WaitForAnswers() {
    for (std::thread& thread : operators_) thread.join();
    operators_.clear();
  }

  std::string folder_;
  std::shared_ptr<FakeShimLink> shim_ = std::make_shared<FakeShimLink>();
  FakeSpawner hosts_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<OperatorServer> server_;
  std::atomic<int> shut_downs_ = 0;
  std::atomic<HostsAtStop> hosts_at_stop_ = HostsAtStop::kAsConfigured;
  absl::Status reload_;  // what a reload comes to
  std::vector<std::shared_ptr<FakeHostProcess>> serving_;
  std::vector<std::shared_ptr<FakeHostProcess>> starting_;  // of the content that was given
  std::vector<std::thread> operators_;
  std::vector<std::string> answers_;
};

TEST_F(OperatorServerTest, StatusIsAnsweredWhileContentStarts) {
  GiveSlowContent(OperatorServer::kWaitingMax);
  const absl::StatusOr<ControlMessage> answer = AskInstance(Path(), MakeGetStatus());
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_NE(answer->as<wire::Status>(), nullptr);
  const StatusFields status = ReadStatus(*answer->as<wire::Status>());
  ASSERT_EQ(status.guards.size(), 1u);
  EXPECT_EQ(status.guards[0].folder, "/guarded");
  ASSERT_EQ(status.drivers.size(), size_t{kDrivers});
  EXPECT_EQ(status.drivers[0].state, "serving") << "the content in force still is";
  EXPECT_THAT(GiveContent(OperatorServer::kWaitingMax), HasSubstr("too many requests wait"));
  for (const auto& host : starting_) ASSERT_NO_FATAL_FAILURE(LetServe(*host));
  WaitForAnswers();
  for (const std::string& text : answers_) EXPECT_THAT(text, IsEmpty());
  EXPECT_EQ(supervisor_->Status().drivers[0].content_version, 2u) << "the second release";
}

TEST_F(OperatorServerTest, ContentOfOneDriverIsGivenByOneAtATime) {
  GiveSlowContent(1);
  EXPECT_THAT(GiveContent(0), HasSubstr("is being put in force"));
  ASSERT_NO_FATAL_FAILURE(LetServe(*starting_[0]));
  WaitForAnswers();
  EXPECT_THAT(answers_[0], IsEmpty());
}

TEST_F(OperatorServerTest, AReloadIsAnsweredWithWhatItCameTo) {
  EXPECT_EQ(Ask(MakeReload()), "");
  reload_ = absl::InvalidArgumentError("bulkhead.toml:3:1: unknown key 'x'");
  EXPECT_EQ(Ask(MakeReload()), "bulkhead.toml:3:1: unknown key 'x'");
}

TEST_F(OperatorServerTest, EventsAreThoseAfterTheNumber) {
  const absl::StatusOr<ControlMessage> answer = AskInstance(Path(), MakeGetEvents(41));
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_NE(answer->as<wire::Events>(), nullptr) << answer->name();
  const EventsFields fields = ReadEvents(*answer->as<wire::Events>());
  ASSERT_EQ(fields.events.size(), 1u);
  EXPECT_EQ(fields.events[0].sequence, 42u);
  EXPECT_EQ(fields.newest, 42u);
}

TEST_F(OperatorServerTest, AStopEndsTheWaitForContent) {
  GiveSlowContent(1);
  supervisor_->Stop();
  WaitForAnswers();
  EXPECT_THAT(answers_[0], HasSubstr("the service ends"));
}

TEST_F(OperatorServerTest, PeersThatSendNothingDelayNoOther) {
  Listen(kForeverNs);
  std::vector<ControlSocket> silent;
  for (size_t i = 0; i < OperatorServer::kPeersMax; ++i) {
    absl::StatusOr<ControlSocket> peer = ControlSocket::Connect(Path());
    ASSERT_TRUE(peer.ok()) << peer.status();
    silent.push_back(*std::move(peer));
    if (i % 8 == 0) {
      const absl::StatusOr<ControlMessage> answer = AskInstance(Path(), MakeGetStatus());
      ASSERT_TRUE(answer.ok()) << answer.status();
    }
  }
  // With as many as there may be, the oldest makes room.
  const absl::StatusOr<ControlMessage> answer = AskInstance(Path(), MakeGetStatus());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_NE(answer->as<wire::Status>(), nullptr);
  EXPECT_TRUE(absl::IsUnavailable(silent.front().Receive(MonotonicAfterNs(kSoonNs)).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(silent.back().Receive(0).status()));
}

TEST_F(OperatorServerTest, APeerThatSendsNothingIsDropped) {
  Listen(kNanosecondsPerMillisecond);
  absl::StatusOr<ControlSocket> peer = ControlSocket::Connect(Path());
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_TRUE(absl::IsUnavailable(peer->Receive(MonotonicAfterNs(kSoonNs)).status()));
}

// The connection waits where it is; a reader that polls for it again and again would take a CPU.
TEST_F(OperatorServerTest, WithoutDescriptorsAPeerWaitsAndTheReaderSleeps) {
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  // All are open but the last one, which is this side's.
  constexpr int kLast = 255;
  std::vector<UniqueFd> taken;
  do {
    taken.emplace_back(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
    ASSERT_TRUE(taken.back().valid());
  } while (taken.back().get() < kLast);
  taken.pop_back();
  rlimit none = limit;
  none.rlim_cur = kLast + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  absl::StatusOr<ControlSocket> peer = ControlSocket::Connect(Path());
  const auto used_ns = [] {
    timespec used = {};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<uint64_t>(used.tv_sec) * kNanosecondsPerSecond +
           static_cast<uint64_t>(used.tv_nsec);
  };
  constexpr uint64_t kWatchedNs = kNanosecondsPerSecond / 2;
  const uint64_t before_ns = used_ns();
  PollUntil(-1, 0, MonotonicAfterNs(kWatchedNs));
  const uint64_t spent_ns = used_ns() - before_ns;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_LT(spent_ns, kWatchedNs / 5);
  ASSERT_TRUE(peer->Send(MakeGetStatus()).ok());
  const absl::StatusOr<ControlMessage> answer = peer->Receive(MonotonicAfterNs(kSoonNs));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_NE(answer->as<wire::Status>(), nullptr);
}

// The shim is deaf, so that each status waits for it; more are asked than there is room for.
TEST_F(OperatorServerTest, AShutdownIsCarriedHoweverManyWait) {
  shim_->HoldAll();
  std::vector<ControlSocket> peers;
  for (size_t i = 0; i < 4 * OperatorServer::kPeersMax; ++i) {
    absl::StatusOr<ControlSocket> peer = ControlSocket::Connect(Path());
    ASSERT_TRUE(peer.ok()) << peer.status();
    ASSERT_TRUE(peer->Send(MakeGetStatus()).ok());
    peers.push_back(*std::move(peer));
  }
  EXPECT_EQ(Ask(MakeShutdown()), "");
  EXPECT_EQ(shut_downs_.load(), 1);
  int busy = 0;
  for (ControlSocket& peer : peers) {
    const absl::StatusOr<ControlMessage> answer = peer.Receive(MonotonicAfterNs(kSoonNs));
    ASSERT_TRUE(answer.ok()) << answer.status() << ": each is answered";
    if (const auto* done = answer->as<wire::Done>()) {
      EXPECT_THAT(done->error()->str(), HasSubstr("try again"));
      ++busy;
    }
  }
  EXPECT_GT(busy, 0);
  shim_->LetGo();
}

TEST_F(OperatorServerTest, ShutdownIsPassedOn) {
  EXPECT_EQ(Ask(MakeShutdown()), "");
  EXPECT_EQ(shut_downs_.load(), 1);
  EXPECT_EQ(hosts_at_stop_.load(), HostsAtStop::kAsConfigured);
  EXPECT_EQ(Ask(MakeShutdown(HostsAtStop::kEnd)), "");
  EXPECT_EQ(hosts_at_stop_.load(), HostsAtStop::kEnd);
  EXPECT_THAT(Ask(MakeShutdown(HostsAtStop::kStay)), HasSubstr("can't stay"));
  EXPECT_EQ(hosts_at_stop_.load(), HostsAtStop::kStay);
}

TEST_F(OperatorServerTest, WhatIsNoOperatorsRequestIsRefusedByName) {
  EXPECT_THAT(Ask(MakePing(1)), HasSubstr("Ping is no operator's request"));
  EXPECT_THAT(Ask(MakeRelease("none")), HasSubstr("no driver 'none'"));
}

}  // namespace
}  // namespace bulkhead
