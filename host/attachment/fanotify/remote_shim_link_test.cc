// SPDX-License-Identifier: Apache-2.0
//
// A link to a keeper and a worker that the test plays: what they never answer costs a second, and
// nothing that they answer late is taken for the answer to something else.
#include "host/attachment/fanotify/remote_shim_link.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/control/shim_protocol.h"
#include "ipc/fanotify/keeper_protocol.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

constexpr uint64_t kSoonNs = 30 * kNanosecondsPerSecond;
constexpr uint64_t kAtOnceNs = 10 * kNanosecondsPerMillisecond;
// A second is promised; the rest is for a machine that stops meanwhile.
constexpr uint64_t kBoundNs = 4 * kNanosecondsPerSecond;

class RemoteShimLinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    keeper_ = UniqueFd(pair[0]);
    auto control = ControlSocket::Pair();
    ASSERT_TRUE(control.ok());
    worker_ = std::move(control->first);
    // A few messages fill it.
    const int bytes = 1;
    ASSERT_EQ(setsockopt(control->second.fd(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    std::thread keeper([this] { AnswerOrder(KeeperOrder::kConfigure); });
    const absl::Status connected = link_.Connect(std::move(control->second), UniqueFd(pair[1]));
    keeper.join();
    ASSERT_TRUE(connected.ok()) << connected;
  }
  void TearDown() override {
    worker_.Close();
    keeper_.reset();
    link_.Disconnect();
  }

  KeeperRequest ReadOrder() {
    KeeperRequest request = {};
    EXPECT_TRUE(PollUntil(keeper_.get(), POLLIN, MonotonicAfterNs(kSoonNs)));
    EXPECT_EQ(recv(keeper_.get(), &request, sizeof(request), MSG_DONTWAIT),
              ssize_t{sizeof(request)});
    return request;
  }
  void Reply(const KeeperRequest& request, const std::string& error = "") {
    KeeperReply reply = {};
    reply.version = kKeeperVersion;
    reply.number = request.number;
    reply.failed = error.empty() ? 0 : 1;
    error.copy(reply.error, sizeof(reply.error) - 1);
    EXPECT_EQ(send(keeper_.get(), &reply, sizeof(reply), MSG_NOSIGNAL), ssize_t{sizeof(reply)});
  }
  void AnswerOrder(KeeperOrder expected) {
    const KeeperRequest request = ReadOrder();
    EXPECT_EQ(request.order, expected);
    Reply(request);
  }
  void ReplyWithRegions(const KeeperRequest& request) {
    const UniqueFd region(open("/dev/null", O_RDWR | O_CLOEXEC));
    const int regions[2] = {region.get(), region.get()};
    KeeperReply reply = {};
    reply.version = kKeeperVersion;
    reply.number = request.number;
    iovec bytes = {.iov_base = &reply, .iov_len = sizeof(reply)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(regions))] = {};
    msghdr message = {};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(regions));
    std::memcpy(CMSG_DATA(header), regions, sizeof(regions));
    EXPECT_EQ(sendmsg(keeper_.get(), &message, MSG_NOSIGNAL), ssize_t{sizeof(reply)});
  }
  void AddChannel() {
    std::thread keeper([this] {
      const KeeperRequest request = ReadOrder();
      EXPECT_EQ(request.order, KeeperOrder::kAddChannel);
      ReplyWithRegions(request);
    });
    const absl::StatusOr<ChannelId> channel = link_.AddChannel(ChannelSpec("scanner"));
    keeper.join();
    ASSERT_TRUE(channel.ok()) << channel.status();
    ASSERT_EQ(*channel, 0u);
  }
  // The keeper answers every order, and its worker greets.
  void Run() {
    ASSERT_TRUE(worker_.Send(MakeShimHello(static_cast<uint32_t>(getpid()), 1, 0)).ok());
    std::atomic<bool> greeted = false;
    std::thread keeper([this, &greeted] {
      while (!greeted) {
        if (PollUntil(keeper_.get(), POLLIN, MonotonicAfterNs(kAtOnceNs))) Reply(ReadOrder());
      }
    });
    EXPECT_TRUE(link_.EnsureRunning(MonotonicAfterNs(kSoonNs)).ok());
    greeted = true;
    keeper.join();
  }
  bool Begins() {
    std::thread worker([this] {
      for (;;) {
        const absl::StatusOr<ControlMessage> message = worker_.Receive(MonotonicAfterNs(kSoonNs));
        if (!message.ok()) return;
        const auto* begin = message->as<wire::BeginGeneration>();
        if (begin == nullptr) continue;
        EXPECT_TRUE(worker_.Send(MakeResult(begin->request(), "", nullptr)).ok());
        return;
      }
    });
    const absl::Status status = link_.BeginGeneration(0, {.generation = 1}, UniqueFd());
    worker.join();
    return status.ok();
  }
  // Reads and answers until this state comes.
  bool WorkerIsSent(bool quarantined, bool draining) {
    for (;;) {
      const absl::StatusOr<ControlMessage> message = worker_.Receive(MonotonicAfterNs(kSoonNs));
      if (!message.ok()) return false;
      EXPECT_TRUE(worker_.Send(MakeResult(0, "", nullptr)).ok());
      if (const auto* end = message->as<wire::EndGeneration>()) end_sent_ = end->generation();
      const auto* state = message->as<wire::SetState>();
      if (state == nullptr) continue;
      if (state->quarantined() == quarantined && state->draining() == draining) return true;
    }
  }
  static void ExpectUnavailableInTime(const std::function<absl::Status()>& request) {
    const uint64_t began_ns = MonotonicNowNs();
    const absl::Status status = request();
    EXPECT_LT(MonotonicNowNs() - began_ns, kBoundNs);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  }
  // Every request that waits for the shim.
  std::vector<std::function<absl::Status()>> Requests() {
    return {
        [this] { return link_.BeginGeneration(0, {.generation = 1}, UniqueFd()); },
        [this] { return link_.SetState(0, true, false); },
        [this] { return link_.SetPolicy(0, DefaultPolicy()); },
        [this] { return link_.Statistics(0).status(); },
    };
  }
  void ExpectAllUnavailableInTime() {
    std::vector<std::thread> threads;
    for (const auto& request : Requests()) {
      threads.emplace_back([request] { ExpectUnavailableInTime(request); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  ExclusionTable exclusions_;
  UniqueFd keeper_;        // the keeper's end
  ControlSocket worker_;   // the worker's end
  uint32_t end_sent_ = 0;  // the generation of the last EndGeneration that the worker read
  RemoteShimLink link_{&exclusions_, {}, [] {}};
};

TEST_F(RemoteShimLinkTest, AKeeperThatNeverAnswersCostsASecond) {
  AddChannel();
  ExpectAllUnavailableInTime();
}

TEST_F(RemoteShimLinkTest, AWorkerThatNeverGreetsCostsASecond) {
  AddChannel();
  std::thread keeper([this] { AnswerOrder(KeeperOrder::kRun); });
  ExpectUnavailableInTime([this] { return link_.Statistics(0).status(); });
  keeper.join();
  ExpectAllUnavailableInTime();
}

TEST_F(RemoteShimLinkTest, AWorkerThatNeverAnswersCostsASecond) {
  AddChannel();
  Run();
  ExpectAllUnavailableInTime();
}

TEST_F(RemoteShimLinkTest, AReplyThatComesTooLateIsNotTheNextOrders) {
  EXPECT_TRUE(absl::IsUnavailable(link_.EnsureRunning(MonotonicAfterNs(kAtOnceNs))));
  const KeeperRequest late = ReadOrder();
  std::thread keeper([&] {
    const KeeperRequest request = ReadOrder();
    Reply(late, "the late one");
    EXPECT_EQ(request.order, KeeperOrder::kAddChannel);
    ReplyWithRegions(request);
  });
  const absl::StatusOr<ChannelId> channel = link_.AddChannel(ChannelSpec("scanner"));
  keeper.join();
  EXPECT_TRUE(channel.ok()) << channel.status();
}

// The keeper may have made the channel: no order may follow on a number that the link does not
// know.
TEST_F(RemoteShimLinkTest, AKeeperThatDoesNotAnswerAboutAChannelIsGivenUp) {
  ExpectUnavailableInTime([this] { return link_.AddChannel(ChannelSpec("scanner")).status(); });
  EXPECT_EQ(ReadOrder().order, KeeperOrder::kAddChannel);
  char byte;
  EXPECT_EQ(recv(keeper_.get(), &byte, 1, MSG_DONTWAIT), 0) << "its socket is closed";
}

TEST_F(RemoteShimLinkTest, WhatIsSetWhileNoWorkerServesIsSentToTheNext) {
  AddChannel();
  ExpectUnavailableInTime([this] { return link_.SetState(0, true, false); });
  Run();
  EXPECT_TRUE(WorkerIsSent(true, false));
}

TEST_F(RemoteShimLinkTest, WhatFoundNoRoomIsSentWhenTheWorkerReadsAgain) {
  AddChannel();
  Run();
  ASSERT_TRUE(Begins());
  // Nothing reads: at some point the socket is full, and requests end at once.
  std::vector<std::thread> threads;
  std::atomic<bool> full = false;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      while (!full) {
        const uint64_t began_ns = MonotonicNowNs();
        ExpectUnavailableInTime([this] { return link_.SetState(0, true, false); });
        if (MonotonicNowNs() - began_ns < kNanosecondsPerSecond) full = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectUnavailableInTime([this] { return link_.SetState(0, false, true); });
  ExpectUnavailableInTime([this] { return link_.EndGeneration(0, 1, BH_END_CRASHED).status(); });
  EXPECT_TRUE(WorkerIsSent(false, true));
  EXPECT_EQ(end_sent_, 1u) << "or its successor is refused";
}

}  // namespace
}  // namespace bulkhead
