// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/operator_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
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
#include "ipc/sanitizer.h"
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
         .sign_in = [this](const OperatorPeer& who) -> absl::StatusOr<std::string> {
           signed_in_ = who.user;
           if (link_) return *link_;
           return absl::FailedPreconditionError("no page");
         },
         .events =
             [](uint64_t after, bool words) {
               return EventsFields{
                   .events = {{.sequence = after + 1, .kind = words ? "Serving" : "WithoutWords"}},
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
  absl::Status reload_;              // what a reload comes to
  std::optional<std::string> link_;  // of a sign-in
  std::atomic<uid_t> signed_in_ = UINT32_MAX;
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

TEST_F(OperatorServerTest, ASignInIsAnsweredWithALinkOrWithWhyThereIsNone) {
  EXPECT_THAT(Ask(MakeSignIn()), HasSubstr("no page"));
  link_ = "http://127.0.0.1:9464/#sign-in=ab";
  const absl::StatusOr<ControlMessage> answer = AskInstance(Path(), MakeSignIn());
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_NE(answer->as<wire::SignInLink>(), nullptr) << answer->name();
  EXPECT_EQ(answer->as<wire::SignInLink>()->link()->str(), *link_);
  EXPECT_EQ(signed_in_, geteuid());
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
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs descriptors of its own";
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

// ---- Other users, through the socket for groups

constexpr uid_t kReaderUser = 61001, kOtherUser = 61002;
constexpr gid_t kReaders = 61101, kAdmins = 61102, kOwnGroup = 61100;

class OperatorGroupsTest : public OperatorServerTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "becomes other users: needs root";
    OperatorServerTest::SetUp();
    std::filesystem::permissions(folder_, std::filesystem::perms(0755));
    ASSERT_TRUE(server_->Admit(GroupPath(), Groups()).ok());
  }
  void TearDown() override {
    if (supervisor_ != nullptr) OperatorServerTest::TearDown();
  }
  std::string GroupPath() const { return folder_ + "/groups"; }
  static OperatorGroups Groups() {
    return {.readers = OperatorGroup{"the-readers", kReaders},
            .admins = OperatorGroup{"the-admins", kAdmins}};
  }
  static bool Become(uid_t user, const std::vector<gid_t>& groups, uid_t saved) {
    return setgroups(groups.size(), groups.data()) == 0 &&
           setresgid(kOwnGroup, kOwnGroup, kOwnGroup) == 0 && setresuid(user, user, saved) == 0;
  }
  // Runs it in a process of that user; its process.
  template <typename Body>
  static pid_t BeginAs(uid_t user, const std::vector<gid_t>& groups, const Body& body) {
    const pid_t child = fork();
    if (child == 0) _exit(Become(user, groups, user) ? body() : 125);
    return child;
  }
  static int CodeOf(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  template <typename Body>
  static int RunAs(uid_t user, const std::vector<gid_t>& groups, const Body& body) {
    return CodeOf(BeginAs(user, groups, body));
  }

  enum Came { kAnswered = 0, kRefused = 1, kFailed = 2 };
  static int CameOf(const absl::StatusOr<ControlMessage>& answer) {
    if (!answer.ok()) return kFailed;
    const auto* done = answer->as<wire::Done>();
    return done != nullptr && done->refused() ? kRefused : kAnswered;
  }
  int Request(const ControlBuffer& request) const {
    return CameOf(AskInstance(GroupPath(), request, kSoonNs));
  }
  // In the order of kOperatorRequests.
  static std::vector<ControlBuffer> Requests() {
    std::vector<ControlBuffer> requests;
    requests.push_back(MakeGetStatus());
    requests.push_back(MakeGetEvents(0));
    requests.push_back(MakeSetContent("none", "/nothing"));
    requests.push_back(MakeRelease("none"));
    requests.push_back(MakeReload());
    requests.push_back(MakeSignIn());
    requests.push_back(MakeShutdown(HostsAtStop::kEnd));
    return requests;
  }
  // Bit i: request i was answered, or one of them failed.
  int Mask() const {
    int mask = 0;
    const std::vector<ControlBuffer> requests = Requests();
    for (size_t i = 0; i < requests.size(); ++i) {
      const int came = Request(requests[i]);
      if (came == kFailed) return 126;
      if (came == kAnswered) mask |= 1 << i;
    }
    return mask;
  }
};

TEST_F(OperatorGroupsTest, EachMayAskWhatItsGroupSays) {
  EXPECT_EQ(Requests().size(), std::size(kOperatorRequests)) << "a row without a request here";
  const auto mask = [this] { return Mask(); };
  EXPECT_EQ(RunAs(kOtherUser, {}, mask), 0);
  EXPECT_EQ(RunAs(65534, {}, mask), 0);
  EXPECT_EQ(RunAs(kReaderUser, {kReaders}, mask), 0b0000011);
  EXPECT_EQ(shut_downs_.load(), 0);
  EXPECT_EQ(RunAs(kReaderUser, {kAdmins}, mask), 0b1111111);
  EXPECT_EQ(shut_downs_.load(), 1);
  EXPECT_EQ(Mask(), 0b1111111) << "root";
  const pid_t child = fork();
  if (child == 0) {
    if (setgroups(0, nullptr) != 0 || setresgid(kReaders, kReaders, kReaders) != 0) _exit(125);
    if (setresuid(kReaderUser, kReaderUser, kReaderUser) != 0) _exit(125);
    _exit(Mask());
  }
  EXPECT_EQ(CodeOf(child), 0b0000011) << "as its only group, not a supplementary one";
}

TEST_F(OperatorGroupsTest, ARefusalSaysWhichGroupItTakes) {
  const auto says = [this](const ControlBuffer& request, const std::string& text) {
    const absl::StatusOr<ControlMessage> answer = AskInstance(GroupPath(), request);
    if (!answer.ok()) return 2;
    const auto* done = answer->as<wire::Done>();
    return done != nullptr && done->error() != nullptr &&
                   done->error()->str().find(text) != std::string::npos
               ? 0
               : 3;
  };
  EXPECT_EQ(RunAs(kOtherUser, {},
                  [&] { return says(MakeGetStatus(), "'the-readers' or the group 'the-admins'"); }),
            0);
  EXPECT_EQ(
      RunAs(kReaderUser, {kReaders},
            [&] { return says(MakeShutdown(), "stop the service: that takes the group 'the-a"); }),
      0);
}

TEST_F(OperatorGroupsTest, AReaderIsToldNoWordsOfDrivers) {
  const auto kind = [this](const std::string& wanted) {
    const absl::StatusOr<ControlMessage> answer = AskInstance(GroupPath(), MakeGetEvents(0));
    const auto* events = answer.ok() ? answer->as<wire::Events>() : nullptr;
    return events != nullptr && ReadEvents(*events).events[0].kind == wanted ? 0 : 1;
  };
  EXPECT_EQ(RunAs(kReaderUser, {kReaders}, [&] { return kind("WithoutWords"); }), 0);
  EXPECT_EQ(RunAs(kReaderUser, {kAdmins}, [&] { return kind("Serving"); }), 0);
}

// The kernel records groups when a process connects.
TEST_F(OperatorGroupsTest, AGroupThatIsDroppedCountsForNoNewConnection) {
  const pid_t child = fork();
  if (child == 0) {
    if (!Become(kReaderUser, {kReaders}, /*saved=*/0)) _exit(125);
    absl::StatusOr<ControlSocket> before = ControlSocket::Connect(GroupPath());
    if (!before.ok()) _exit(2);
    if (seteuid(0) != 0 || setgroups(0, nullptr) != 0 || seteuid(kReaderUser) != 0) _exit(3);
    if (!before->Send(MakeGetStatus()).ok()) _exit(4);
    if (CameOf(before->Receive(MonotonicAfterNs(kSoonNs))) != kAnswered) _exit(5);
    _exit(Request(MakeGetStatus()) == kRefused ? 0 : 6);
  }
  EXPECT_EQ(CodeOf(child), 0);
}

TEST_F(OperatorGroupsTest, OtherGroupsCountForConnectionsThatAreThere) {
  int to_child[2], to_parent[2];
  ASSERT_EQ(pipe(to_child), 0);
  ASSERT_EQ(pipe(to_parent), 0);
  const pid_t child = BeginAs(kReaderUser, {kReaders}, [&] {
    char byte = 0;
    absl::StatusOr<ControlSocket> before = ControlSocket::Connect(GroupPath());
    if (!before.ok() || write(to_parent[1], "c", 1) != 1) return 2;
    if (read(to_child[0], &byte, 1) != 1) return 3;
    // One that is accepted only now is refused, and closed, before it asks: as for AskInstance().
    const absl::Status sent = before->Send(MakeGetStatus());
    if (!sent.ok() && !absl::IsUnavailable(sent)) return 3;
    return CameOf(before->Receive(MonotonicAfterNs(kSoonNs))) == kRefused ? 0 : 4;
  });
  char byte = 0;
  EXPECT_EQ(read(to_parent[0], &byte, 1), 1);
  EXPECT_TRUE(server_
                  ->Admit(GroupPath(), {.readers = OperatorGroup{"others", kOwnGroup + 7},
                                        .admins = std::nullopt})
                  .ok());
  EXPECT_EQ(write(to_child[1], "g", 1), 1);
  EXPECT_EQ(CodeOf(child), 0);
  for (const int end : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) close(end);
}

TEST_F(OperatorGroupsTest, WithoutGroupsThereIsNoSocketForThem) {
  EXPECT_EQ(std::filesystem::status(GroupPath()).permissions(), std::filesystem::perms(0666));
  EXPECT_TRUE(server_->Admit(GroupPath(), {}).ok());
  EXPECT_FALSE(std::filesystem::exists(GroupPath()));
  EXPECT_TRUE(server_->Admit(GroupPath(), Groups()).ok());
  EXPECT_EQ(Request(MakeGetStatus()), kAnswered);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(GroupPath()));
  EXPECT_EQ(std::filesystem::status(folder_).permissions(), std::filesystem::perms(0755));
}

// Every request of the flood is slow: the shim is deaf.
TEST_F(OperatorGroupsTest, AFloodByOneReaderKeepsNeitherRootNorOthersOut) {
  int stop[2], began[2];
  ASSERT_EQ(pipe2(stop, O_NONBLOCK), 0);
  ASSERT_EQ(pipe(began), 0);
  const pid_t child = BeginAs(kReaderUser, {kReaders}, [&] {
    constexpr size_t kHeld = 500;
    std::deque<ControlSocket> held;
    char byte = 0;
    for (int i = 0; read(stop[0], &byte, 1) < 0; ++i) {
      absl::StatusOr<ControlSocket> one = ControlSocket::Connect(GroupPath());
      if (i == 100 && write(began[1], "b", 1) != 1) return 2;
      if (!one.ok()) continue;
      if (i % 2 == 0) (void)one->Send(MakeGetStatus(), {}, 0);
      held.push_back(*std::move(one));
      if (held.size() > kHeld) held.pop_front();
    }
    return 0;
  });
  char byte = 0;
  EXPECT_EQ(read(began[0], &byte, 1), 1);
  shim_->HoldAll();
  for (int i = 0; i < 5; ++i) {
    const absl::StatusOr<ControlMessage> answer = AskInstance(Path(), MakeGetStatus(), kSoonNs);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_NE(answer->as<wire::Status>(), nullptr) << answer->name();
  }
  shim_->LetGo();
  // The queue of the kernel is shared: another tries until it is its turn.
  EXPECT_EQ(RunAs(kOtherUser, {kReaders},
                  [&] {
                    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
                    while (MonotonicNowNs() < until_ns) {
                      const absl::StatusOr<ControlMessage> answer =
                          AskInstance(GroupPath(), MakeGetStatus());
                      if (answer.ok() && answer->as<wire::Status>() != nullptr) return 0;
                    }
                    return 1;
                  }),
            0);
  EXPECT_EQ(write(stop[1], "s", 1), 1);
  EXPECT_EQ(CodeOf(child), 0);
  for (const int end : {stop[0], stop[1], began[0], began[1]}) close(end);
}

TEST_F(OperatorGroupsTest, OneUsersConnectionsMakeRoomForItsOwn) {
  Listen(kForeverNs);
  ASSERT_TRUE(server_->Admit(GroupPath(), Groups()).ok());
  const int code = RunAs(kReaderUser, {kReaders}, [&] {
    std::vector<ControlSocket> mine;
    for (size_t i = 0; i < OperatorServer::kUserPeersMax + 1; ++i) {
      absl::StatusOr<ControlSocket> one = ControlSocket::Connect(GroupPath());
      if (!one.ok()) return 2;
      mine.push_back(*std::move(one));
    }
    if (!absl::IsUnavailable(mine[0].Receive(MonotonicAfterNs(kSoonNs)).status())) return 3;
    return absl::IsDeadlineExceeded(mine[1].Receive(0).status()) ? 0 : 4;
  });
  EXPECT_EQ(code, 0);
}

TEST_F(OperatorServerTest, WhatIsNoOperatorsRequestIsRefusedByName) {
  EXPECT_THAT(Ask(MakePing(1)), HasSubstr("Ping is no operator's request"));
  EXPECT_THAT(Ask(MakeRelease("none")), HasSubstr("no driver 'none'"));
}

}  // namespace
}  // namespace bulkhead
