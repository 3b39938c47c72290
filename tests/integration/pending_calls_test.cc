// SPDX-License-Identifier: Apache-2.0
//
// A driver that answers later, in a real bulkhead-host: a thousand calls in flight, completed in
// random order by other threads, while hosts are killed, drained and late. Each call ends once,
// with its own answer, and the right calls are charged.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host/process/sandbox.h"
#include "ipc/control/host_protocol.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/testing/fake_observer.h"
#include "tests/testing/host_process_fixture.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kLongNs = 120 * kNanosecondsPerSecond;
constexpr size_t kCalls = 1000;

class PendingCallsTest : public ::testing::Test {
 protected:
  struct Asked {
    uint64_t inode = 0;
    std::string path;
    UniqueFd file;
    std::unique_ptr<EmbeddedShim::PendingCall> call;
    bool ended = false;
    Completion completion;
  };

  void SetUp() override {
    const char* build = std::getenv("BULKHEAD_BUILD");
    ASSERT_NE(build, nullptr);
    build_ = build;
    auto shim = EmbeddedShim::Create({.deadline_ns = kLongNs});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    shim_->SetObserver(&observer_);
    ChannelSpec spec;
    spec.driver = "later";
    spec.geometry = kGeometry;
    spec.cache_entries = 0;
    auto channel = shim_->AddChannel(spec);
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_ = *channel;
  }

  std::unique_ptr<HostRun> Serve(uint32_t pending_calls_max, const std::string& options) {
    auto run = HostRun::Spawn(build_ + "/bin/bulkhead-host");
    EXPECT_TRUE(run.ok()) << run.status();
    if (!run.ok()) return nullptr;
    AttachFields fields;
    fields.generation = ++generation_;
    fields.reason = generation_ == 1 ? BH_START_COLD : BH_START_CRASH_RESTART;
    fields.geometry = kGeometry;
    fields.workers = 2;
    fields.driver_name = "later";
    fields.driver_path = build_ + "/test-modules/later.so";
    fields.callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
    bh_set_add(&fields.callbacks, BH_CALLBACK_FILE_EXEC);
    fields.sandbox = BH_LAYERS_ALL;
    fields.pending_calls_max = pending_calls_max;
    fields.options = options;
    const absl::Status status = (*run)->Begin(*shim_, channel_, fields);
    EXPECT_TRUE(status.ok()) << status;
    return status.ok() ? *std::move(run) : nullptr;
  }
  void End(HostRun& run, bh_end end) {
    run.Kill();
    EXPECT_TRUE(shim_->EndGeneration(channel_, generation_, end).ok());
  }

  FileRequest Request(Asked& asked, uint64_t deadline_ns) {
    FileRequest request;
    request.inode = asked.inode;
    request.path = asked.path;
    request.deadline_ns = deadline_ns;
    if (asked.file.valid()) {
      request.callback = BH_CALLBACK_FILE_EXEC;
      request.descriptor = asked.file.get();
    }
    return request;
  }
  void Ask(const std::string& path, uint64_t inode = 0, UniqueFd file = UniqueFd(),
           uint64_t span_ns = kLongNs) {
    Asked& asked = asked_.emplace_back();
    asked.inode = inode;
    asked.path = path;
    asked.file = std::move(file);
    asked.call = shim_->Start(Request(asked, MonotonicAfterNs(span_ns)));
    asked.ended = shim_->Poll(*asked.call, &asked.completion);
  }
  void AskMany(size_t count) {
    asked_.reserve(asked_.size() + count);
    for (size_t i = 0; i < count; ++i) {
      const uint64_t inode = next_inode_++;
      Ask("/p/" + std::to_string(inode), inode);
    }
  }
  // How many have ended.
  size_t Poll() {
    size_t ended = 0;
    for (Asked& asked : asked_) {
      if (!asked.ended) asked.ended = shim_->Poll(*asked.call, &asked.completion);
      ended += asked.ended ? 1 : 0;
    }
    return ended;
  }
  void PollUntil(size_t count) {
    const uint64_t until_ns = MonotonicAfterNs(kLongNs);
    while (Poll() < count && MonotonicNowNs() < until_ns) std::this_thread::yield();
  }
  void PollUntilDead(HostRun& run) {
    const uint64_t until_ns = MonotonicAfterNs(kLongNs);
    while (!absl::IsUnavailable(run.control().Receive(0).status())) {
      ASSERT_LT(MonotonicNowNs(), until_ns);
      Poll();
    }
  }
  Completion AskNow(const std::string& path) {
    FileRequest request;
    request.path = path;
    return shim_->Call(request);
  }
  // Waits until the driver has so many.
  void AwaitPending(size_t count) {
    const uint64_t until_ns = MonotonicAfterNs(kLongNs);
    while (!AskNow("/count " + std::to_string(count)).allowed()) {
      ASSERT_LT(MonotonicNowNs(), until_ns);
      Poll();
    }
  }
  void ExpectAllAnswered() {
    for (const Asked& asked : asked_) {
      ASSERT_TRUE(asked.ended) << asked.path;
      ASSERT_EQ(asked.completion.outcome, uint32_t{BH_OUTCOME_ANSWERED}) << asked.path;
      ASSERT_EQ(asked.completion.allowed(), asked.inode % 2 == 0) << asked.path;
      ASSERT_EQ(asked.completion.error, asked.completion.allowed() ? EPERM : EACCES);
    }
  }

  static constexpr bh_geometry kGeometry = {
      .lanes = 16, .slots_per_lane = 64, .call_chunks = 1024, .reply_chunks = 0};
  std::string build_;
  FakeObserver observer_;
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  uint32_t generation_ = 0;
  uint64_t next_inode_ = 1;
  std::vector<Asked> asked_;
};

TEST_F(PendingCallsTest, AThousandInFlightThroughKillsAndADrain) {
  // All of them at one host, which answers its heartbeat.
  constexpr size_t kQuota = kCalls / 5;
  const std::string quota = " quota=" + std::to_string(kQuota);
  auto run = Serve(kCalls, "hold=" + std::to_string(kCalls) + quota);
  ASSERT_TRUE(run);
  AskMany(kCalls - 1);
  ASSERT_NO_FATAL_FAILURE(AwaitPending(kCalls - 1));
  EXPECT_EQ(shim_->Statistics(channel_)->in_flight, kCalls - 1);
  ASSERT_TRUE(run->control().Send(MakePing(7)).ok());
  const auto pong = run->Receive();
  ASSERT_TRUE(pong.ok()) << pong.status();
  ASSERT_NE(pong->as<wire::Pong>(), nullptr);
  EXPECT_EQ(pong->as<wire::Pong>()->number(), 7u);
  EXPECT_EQ(Poll(), 0u);
  AskMany(1);  // the last one lets them go

  // Killed again and again, with the rest in hand.
  for (size_t ended = kQuota; ended < kCalls; ended += kQuota) {
    PollUntil(ended);
    ASSERT_EQ(Poll(), ended);
    ASSERT_NO_FATAL_FAILURE(AwaitPending(kCalls - ended));
    End(*run, BH_END_KILLED);
    run = Serve(kCalls, "hold=" + std::to_string(kCalls - ended) + quota);
    ASSERT_TRUE(run);
  }
  PollUntil(kCalls);
  ASSERT_NO_FATAL_FAILURE(ExpectAllAnswered());
  auto statistics = shim_->Statistics(channel_);
  uint64_t reissued = 0;
  for (const Asked& asked : asked_) reissued += asked.completion.issues - 1;
  EXPECT_EQ(statistics->reissued, reissued);
  EXPECT_EQ(reissued, 4 * kCalls / 5 + 3 * kCalls / 5 + 2 * kCalls / 5 + kCalls / 5);
  EXPECT_EQ(statistics->in_flight, 0u);
  EXPECT_EQ(statistics->violations + statistics->late + statistics->poisoned, 0u);
  EXPECT_EQ(statistics->calls, statistics->answered);

  // Drained while it has many: the host finishes them, then its driver stops.
  End(*run, BH_END_STOPPED);
  run = Serve(kCalls, "hold=" + std::to_string(kCalls / 2));
  ASSERT_TRUE(run);
  AskMany(kCalls / 2);
  PollUntil(kCalls + 1);
  ASSERT_TRUE(shim_->SetState(channel_, false, true).ok());
  ASSERT_TRUE(run->control().Send(MakeDrain(generation_)).ok());
  EXPECT_TRUE(absl::IsUnavailable(run->Receive().status()));
  const int status = run->Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS) << status;
  EXPECT_THAT(run->log(), HasSubstr("stopped with 0 pending"));
  EXPECT_TRUE(shim_->EndGeneration(channel_, generation_, BH_END_STOPPED).ok());
  // A call that the drained host had not taken goes to the next one.
  run = Serve(kCalls, "");
  ASSERT_TRUE(run);
  PollUntil(asked_.size());
  ASSERT_NO_FATAL_FAILURE(ExpectAllAnswered());
  statistics = shim_->Statistics(channel_);
  EXPECT_EQ(statistics->calls, statistics->answered);
  EXPECT_TRUE(observer_.all().empty());
}

// All pending calls are suspects of a crash; the one that is there at the second crash did it.
TEST_F(PendingCallsTest, ACrashIsChargedToWhatWasPending) {
  auto run = Serve(kCalls, "hold=21");
  ASSERT_TRUE(run);
  AskMany(20);
  ASSERT_NO_FATAL_FAILURE(AwaitPending(20));
  const size_t guilty = asked_.size();
  Ask("/crash", 2);
  for (int crash = 1; crash <= 2; ++crash) {
    PollUntilDead(*run);
    const int status = run->Wait();
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
    ASSERT_TRUE(shim_->EndGeneration(channel_, generation_, BH_END_CRASHED).ok());
    run = Serve(kCalls, "");
    ASSERT_TRUE(run);
  }
  PollUntil(asked_.size());
  EXPECT_EQ(asked_[guilty].completion.outcome, uint32_t{BH_OUTCOME_POLICY});
  EXPECT_EQ(asked_[guilty].completion.reason, uint32_t{BH_REASON_POISON});
  EXPECT_FALSE(asked_[guilty].completion.allowed());
  asked_.erase(asked_.begin() + static_cast<long>(guilty));
  ASSERT_NO_FATAL_FAILURE(ExpectAllAnswered());
  EXPECT_EQ(observer_.WaitFor(FakeObserver::News::kPoison, 1), 1u);
}

TEST_F(PendingCallsTest, APendingCallKeepsItsDeadline) {
  auto run = Serve(kCalls, "");
  ASSERT_TRUE(run);
  Ask("/never", 2, UniqueFd(), 200 * kNanosecondsPerMillisecond);
  AskMany(20);
  PollUntil(asked_.size());
  EXPECT_EQ(asked_[0].completion.outcome, uint32_t{BH_OUTCOME_POLICY});
  EXPECT_EQ(asked_[0].completion.reason, uint32_t{BH_REASON_OVERDUE});
  asked_.erase(asked_.begin());
  ASSERT_NO_FATAL_FAILURE(ExpectAllAnswered());
}

// Two workers wait, each with a call of its own, when four are kept.
TEST_F(PendingCallsTest, BeyondTheBoundAWorkerWaits) {
  auto run = Serve(4, "hold=6");
  ASSERT_TRUE(run);
  AskMany(50);
  PollUntil(asked_.size());
  ASSERT_NO_FATAL_FAILURE(ExpectAllAnswered());
  ASSERT_TRUE(run->control().Send(MakeDrain(generation_)).ok());
  EXPECT_TRUE(absl::IsUnavailable(run->Receive().status()));
  EXPECT_THAT(run->log(), HasSubstr("stopped with 0 pending, at most 6"));
}

TEST_F(PendingCallsTest, FilesStayUntilTheCompletion) {
  const std::string path = testing::TempDir() + "/pending-" + std::to_string(getpid());
  auto run = Serve(kCalls, "hold=20");
  ASSERT_TRUE(run);
  for (int i = 0; i < 20; ++i) {
    const uint64_t inode = next_inode_++;
    const std::string content = "/p/" + std::to_string(inode);
    std::ofstream(path) << content;
    UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::filesystem::remove(path);
    Ask(content, inode, std::move(file));
  }
  PollUntil(asked_.size());
  ASSERT_NO_FATAL_FAILURE(ExpectAllAnswered());
}

TEST_F(PendingCallsTest, MistakesHaveDefinedEnds) {
  auto run = Serve(kCalls, "");
  ASSERT_TRUE(run);
  for (int i = 0; i < 3; ++i) {
    const Completion both = AskNow("/both");
    EXPECT_EQ(both.outcome, uint32_t{BH_OUTCOME_ANSWERED});
    EXPECT_FALSE(both.allowed());  // as its callback says
    EXPECT_EQ(both.why, "of its callback");
    const Completion early = AskNow("/early");
    EXPECT_EQ(early.outcome, uint32_t{BH_OUTCOME_ANSWERED});
    EXPECT_FALSE(early.allowed());
    EXPECT_EQ(early.error, EACCES);
    EXPECT_EQ(early.why, std::string(BH_VERDICT_REASON_BYTES, 'y')) << "cut";
    EXPECT_TRUE(AskNow("/twice").allowed());
  }
  ASSERT_TRUE(run->control().Send(MakeDrain(generation_)).ok());
  EXPECT_TRUE(absl::IsUnavailable(run->Receive().status()));
  EXPECT_THAT(run->log(), Not(HasSubstr("was not refused")));
  EXPECT_THAT(run->log(), HasSubstr("completed a call and answered it in its callback"));
  EXPECT_THAT(run->log(), HasSubstr("a call that is not pending"));
  // Once each, however often.
  EXPECT_EQ(run->log().find("is not pending"), run->log().rfind("is not pending"));
}

TEST_F(PendingCallsTest, ADriverWhoseManifestAllowsNoneIsToldSo) {
  auto run = Serve(0, "forget");
  ASSERT_TRUE(run);
  AskMany(2);
  PollUntil(2);
  for (const Asked& asked : asked_) {
    EXPECT_EQ(asked.completion.outcome, uint32_t{BH_OUTCOME_POLICY});
    EXPECT_EQ(asked.completion.reason, uint32_t{BH_REASON_DECLINED});
  }
  ASSERT_TRUE(run->control().Send(MakeDrain(generation_)).ok());
  EXPECT_TRUE(absl::IsUnavailable(run->Receive().status()));
  EXPECT_THAT(run->log(), HasSubstr("may have 0 pending"));
  EXPECT_THAT(run->log(), HasSubstr("its manifest has no pending_calls_max"));
}

}  // namespace
}  // namespace bulkhead
