// SPDX-License-Identifier: Apache-2.0
//
// A host is killed after each of its instructions: while it attaches, while it takes calls, answers
// them and leaves, and while pending calls are completed. Whatever it had written by then, its
// calls end with the right verdict, from it or from the next generation, each once.
//
// The host is a process of its own that runs one instruction at a time; callers and the next
// generation are in this process. The suite kills it after every few instructions;
// BULKHEAD_EVERY_INSTRUCTION=1 after each.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/process/call_table.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/faults/stepped_process.h"
#include "tests/testing/fake_host.h"

namespace bulkhead {
namespace {

const bh_callback_set kCallbacks =
    SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS});
constexpr int kCalls = 2;
constexpr uint64_t kDeadlineNs = 60 * kNanosecondsPerSecond;
constexpr long kPlaces = 80;  // places at which the suite kills

// A function of the object alone, so that all generations give the same answer.
bool Allowed(uint64_t inode) { return inode % 2 == 0; }

enum class Part { kAttaching, kServing, kCompleting };

bulkhead_answer AnswerFor(uint64_t inode) {
  return {.size = sizeof(bulkhead_answer),
          .verdict = Allowed(inode) ? uint32_t{BULKHEAD_ALLOW} : uint32_t{BULKHEAD_DENY},
          .cacheability = 0,
          .error = 0,
          .reason_length = 0,
          .reason = {}};
}

// A driver that has kept all calls (BULKHEAD_PENDING) completes them, the last one first.
void ServeLater(HostPort& port) {
  CallTable table(1, kCalls);
  CallTable::Entry* mine = table.OfWorker(0);
  std::array<std::pair<const bulkhead_call*, uint64_t>, kCalls> pending;
  for (auto& [handle, inode] : pending) {
    std::optional<TakenCall> call = port.Take(0, kForeverNs);
    if (!call) _exit(2);
    bh_file_args file;
    std::memcpy(&file, call->args, sizeof(file));
    inode = file.inode;
    absl::StatusOr<UniqueFd> descriptor = port.ReceiveDescriptor(*call);
    if (!descriptor.ok()) _exit(3);
    mine->descriptor = *std::move(descriptor);
    handle = table.Open(*mine, 0);
    port.BeginDriver(*call);
    mine->taken = *call;
    if (!table.Keep(&mine)) _exit(5);
  }
  SteppedProcess::StopHere();
  const auto send = [&port](TakenCall& call, const bulkhead_answer& answer) {
    const bh_verdict_reply reply = {.verdict = answer.verdict, .cacheability = BH_CACHE_NOT};
    port.Reply(call, BH_REPLY_DONE, {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply)});
  };
  for (auto call = pending.rbegin(); call != pending.rend(); ++call) {
    const auto& [handle, inode] = *call;
    if (table.Complete(handle, AnswerFor(inode), send) != CallTable::Completion::kSent) _exit(6);
  }
  table.WaitUntilNoneIsKept();
}

// The host's life. It stops itself where its parent takes control: before it attaches, when it has
// attached, when it has kept its calls, and when it has left.
[[noreturn]] void LiveAsHost(Part part, ChannelDescriptors regions, UniqueFd files,
                             uint32_t generation) {
  SteppedProcess::StopHere();
  {
    auto port =
        HostPort::Attach(std::move(regions.call_region), std::move(regions.reply_region),
                         std::move(files), {.generation = generation, .workers = 1, .spin_ns = 0});
    if (!port.ok()) _exit(1);
    SteppedProcess::StopHere();
    if (part == Part::kCompleting) ServeLater(**port);
    for (int i = 0; i < kCalls && part != Part::kCompleting; ++i) {
      std::optional<TakenCall> call = (*port)->Take(0, kForeverNs);
      if (!call) _exit(2);
      bh_file_args file;
      std::memcpy(&file, call->args, sizeof(file));
      const auto details = (*port)->Details(*call);
      if (!details.ok() || !(*port)->ReceiveDescriptor(*call).ok()) _exit(3);
      (*port)->BeginDriver(*call);
      const bh_verdict_reply reply = {
          .verdict = Allowed(file.inode) ? uint32_t{BH_VERDICT_ALLOW} : uint32_t{BH_VERDICT_DENY},
          .cacheability = BH_CACHE_NOT};
      std::array<uint8_t, sizeof(reply)> bytes;
      std::memcpy(bytes.data(), &reply, sizeof(reply));
      (*port)->Reply(*call, BH_REPLY_DONE, bytes);
    }
    (*port)->StopTaking();
  }
  SteppedProcess::StopHere();
  _exit(4);
}

class SingleStep : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!SteppedProcess::Allowed()) GTEST_SKIP() << "this machine does not permit tracing a child";
    auto shim = EmbeddedShim::Create({});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "stepped";
    spec.geometry = {.lanes = 1, .slots_per_lane = 3, .call_chunks = 4, .reply_chunks = 0};
    spec.cache_entries = 0;
    spec.spin_ns = 0;
    const auto channel = shim_->AddChannel(spec);
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_ = *channel;
    file_.reset(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  }

  std::vector<std::unique_ptr<EmbeddedShim::PendingCall>> StartCalls() {
    std::vector<std::unique_ptr<EmbeddedShim::PendingCall>> calls;
    for (uint64_t inode = 1; inode <= kCalls; ++inode) {
      FileRequest request;
      request.inode = inode;
      request.path = "/somewhere";
      request.descriptor = file_.get();
      request.deadline_ns = MonotonicAfterNs(kDeadlineNs);
      calls.push_back(shim_->Start(request));
      Completion completion;
      EXPECT_FALSE(shim_->Poll(*calls.back(), &completion));  // passes it to the host, if one
                                                              // serves
    }
    return calls;
  }

  // One host, killed after `steps` instructions of the part; returns how many it ran.
  long KillAfter(Part part, long steps) {
    auto regions = shim_->Descriptors(channel_);
    int ends[2];
    if (!regions.ok() || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
      ADD_FAILURE() << "no channel for the host";
      return 0;
    }
    UniqueFd shim_end(ends[0]), host_end(ends[1]);
    const uint32_t generation = ++generation_;
    SteppedProcess host(
        [&] { LiveAsHost(part, *std::move(regions), std::move(host_end), generation); });
    host_end.reset();
    std::vector<std::unique_ptr<EmbeddedShim::PendingCall>> calls;
    if (part != Part::kAttaching) {
      host.Continue();
      const absl::Status begun = shim_->BeginGeneration(
          channel_, GenerationSpec(generation, kCallbacks, kCallbacks, 1), std::move(shim_end));
      EXPECT_TRUE(begun.ok()) << begun;
      calls = StartCalls();
    }
    if (part == Part::kCompleting) host.Continue();
    const long taken = host.Step(steps);
    EXPECT_TRUE(host.alive()) << "the host ended by itself after instruction " << taken;
    host.Kill();
    if (part != Part::kAttaching) {
      const absl::Status ended = shim_->EndGeneration(channel_, generation, BH_END_KILLED).status();
      EXPECT_TRUE(ended.ok()) << ended;
    } else {
      calls = StartCalls();
    }
    ExpectRightAnswers(calls, part, taken);
    return taken;
  }

  void ExpectRightAnswers(const std::vector<std::unique_ptr<EmbeddedShim::PendingCall>>& calls,
                          Part part, long taken) {
    auto next = FakeHost::Start(*shim_, channel_, ++generation_, [](const FakeHostCall& call) {
      return Allowed(call.file.inode) ? TestAnswer::kAllow : TestAnswer::kDeny;
    });
    ASSERT_TRUE(next.ok()) << next.status();
    for (size_t i = 0; i < calls.size(); ++i) {
      Completion completion;
      ASSERT_TRUE(shim_->WaitUntil(*calls[i], kForeverNs, &completion));
      EXPECT_EQ(completion.outcome, uint32_t{BH_OUTCOME_ANSWERED});
      EXPECT_EQ(completion.allowed(), Allowed(i + 1));
    }
    if (HasFailure()) FAIL() << "part " << static_cast<int>(part) << ", instruction " << taken;
    answered_ += calls.size();
  }

  // The part's length first, then a host for each place.
  void KillEverywhere(Part part) {
    const long length = KillAfter(part, 1'000'000);
    ASSERT_GT(length, 100);
    const bool each = std::getenv("BULKHEAD_EVERY_INSTRUCTION") != nullptr;
    const long places_max = part == Part::kCompleting ? kPlaces / 3 : kPlaces;
    const long stride = each ? 1 : std::max(1L, length / places_max);
    long places = 0;
    for (long steps = 0; steps <= length && !HasFailure(); steps += stride, ++places) {
      KillAfter(part, steps);
    }
    ASSERT_FALSE(HasFailure());
    const auto statistics = shim_->Statistics(channel_);
    ASSERT_TRUE(statistics.ok());
    EXPECT_EQ(statistics->calls, answered_);
    EXPECT_EQ(statistics->answered, answered_);
    EXPECT_EQ(statistics->in_flight, 0u);
    EXPECT_EQ(statistics->violations, 0u);
    std::printf("%ld instructions, killed after %ld of them: %llu calls right, %llu reissued\n",
                length, places, static_cast<unsigned long long>(answered_),
                static_cast<unsigned long long>(statistics->reissued));
  }

  const OnOneCpu on_one_cpu_;
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  uint32_t generation_ = 0;
  UniqueFd file_;
  uint64_t answered_ = 0;
};

TEST_F(SingleStep, AHostMayDieAnywhereWhileItAttaches) { KillEverywhere(Part::kAttaching); }

TEST_F(SingleStep, AHostMayDieAnywhereWhileItServes) { KillEverywhere(Part::kServing); }

TEST_F(SingleStep, AHostMayDieAnywhereWhileItCompletesPendingCalls) {
  KillEverywhere(Part::kCompleting);
}

}  // namespace
}  // namespace bulkhead
