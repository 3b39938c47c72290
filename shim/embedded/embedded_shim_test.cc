// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/embedded_shim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/generation_spec.h"
#include "ipc/monotonic.h"
#include "tests/testing/fake_host.h"
#include "tests/testing/fake_observer.h"

namespace bulkhead {
namespace {

constexpr uint64_t kMs = kNanosecondsPerMillisecond;
// For calls that must not reach their deadline in the test, even on a slow machine.
constexpr uint64_t kLongNs = 60 * kNanosecondsPerSecond;

ChannelSpec Spec(uint32_t altitude = 1000) {
  ChannelSpec spec;
  spec.driver = "test";
  spec.altitude = altitude;
  spec.geometry = {.lanes = 2, .slots_per_lane = 8, .call_chunks = 64, .reply_chunks = 0};
  spec.cache_entries = 64;
  return spec;
}

bh_rule& RuleOf(bh_policy& policy, bh_reason why) {
  return policy.rule[BH_CLASS_FILE][static_cast<size_t>(why)];
}

class EmbeddedShimTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    shim_->SetObserver(&observer_);
  }

  ChannelId Add(const ChannelSpec& spec = Spec()) {
    absl::StatusOr<ChannelId> channel = shim_->AddChannel(spec);
    EXPECT_TRUE(channel.ok()) << channel.status();
    return channel.value_or(0);
  }

  std::unique_ptr<FakeHost> StartHost(ChannelId channel, uint32_t generation, TestDriver driver,
                                      uint32_t workers = 1,
                                      const bh_callback_set& callbacks = AllCallbacks(),
                                      uint64_t content_version = 1) {
    absl::StatusOr<std::unique_ptr<FakeHost>> host = FakeHost::Start(
        *shim_, channel, generation, std::move(driver), workers, callbacks, content_version);
    EXPECT_TRUE(host.ok()) << host.status();
    return host.ok() ? *std::move(host) : nullptr;
  }

  static FileRequest Request(uint64_t inode, uint64_t deadline_span_ns = kLongNs) {
    FileRequest request;
    request.device = 1;
    request.inode = inode;
    request.change = 1;
    request.deadline_ns = MonotonicAfterNs(deadline_span_ns);
    return request;
  }

  FakeObserver observer_;
  std::unique_ptr<EmbeddedShim> shim_;
};

TEST_F(EmbeddedShimTest, ADriverSeesTheFileAndItsVerdictCounts) {
  const ChannelId channel = Add();
  // Host and shim map the channel at different addresses, so ThreadSanitizer does not see that a
  // reply is ordered after the driver's writes; this lock shows it.
  std::mutex mutex;
  FakeHostCall seen;
  auto host = StartHost(channel, 1, [&](const FakeHostCall& call) {
    std::lock_guard<std::mutex> lock(mutex);
    seen = call;
    return call.content == "infected" ? TestAnswer::kDeny : TestAnswer::kAllow;
  });

  char path[] = "/tmp/bulkhead-embedded-XXXXXX";
  UniqueFd made(mkstemp(path));
  ASSERT_TRUE(made.valid());
  ASSERT_EQ(write(made.get(), "infected", 8), 8);
  FileRequest request;
  request.path = path;
  request.callback = BH_CALLBACK_FILE_EXEC;
  request.pid = 77;
  request.deadline_ns = MonotonicAfterNs(kLongNs);
  absl::StatusOr<UniqueFd> file = OpenAndDescribe(request);
  unlink(path);
  ASSERT_TRUE(file.ok()) << file.status();

  const Completion completion = shim_->Call(request);
  EXPECT_FALSE(completion.allowed());
  EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_ANSWERED))
      << OutcomeText(completion);
  std::lock_guard<std::mutex> lock(mutex);
  EXPECT_EQ(seen.callback, static_cast<uint32_t>(BH_CALLBACK_FILE_EXEC));
  EXPECT_EQ(seen.path, path);
  EXPECT_EQ(seen.content, "infected");
  EXPECT_EQ(seen.file.pid, 77u);
  EXPECT_EQ(seen.file.size, 8u);
  EXPECT_EQ(seen.file.inode, request.inode);

  absl::StatusOr<bh_statistics> statistics = shim_->Statistics(channel);
  ASSERT_TRUE(statistics.ok());
  EXPECT_EQ(statistics->calls, 1u);
  EXPECT_EQ(statistics->answered, 1u);
  EXPECT_EQ(statistics->denied, 1u);
  EXPECT_EQ(statistics->generation, 1u);
}

TEST_F(EmbeddedShimTest, WithoutAnyDriverACallPassesUnasked) {
  const Completion completion = shim_->Call(Request(1));
  EXPECT_TRUE(completion.allowed());
  EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_UNASKED));
}

TEST_F(EmbeddedShimTest, ACallThatTheDriverDidNotRegisterForPasses) {
  const ChannelId channel = Add();
  auto host = StartHost(
      channel, 1, [](const FakeHostCall&) { return TestAnswer::kDeny; }, 1,
      SetOf({BH_CALLBACK_FILE_EXEC}));
  EXPECT_EQ(shim_->Call(Request(1)).outcome, static_cast<uint32_t>(BH_OUTCOME_UNASKED));
  FileRequest exec = Request(1);
  exec.callback = BH_CALLBACK_FILE_EXEC;
  EXPECT_FALSE(shim_->Call(exec).allowed());
  EXPECT_EQ(host->calls(), 1u);
}

TEST_F(EmbeddedShimTest, AnExcludedProcessIsNotAskedAbout) {
  const ChannelId channel = Add();
  auto host = StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kDeny; });
  ASSERT_TRUE(shim_->Exclude(4242).ok());
  FileRequest request = Request(1);
  request.pid = 4242;
  EXPECT_TRUE(shim_->Call(request).allowed());
  ASSERT_TRUE(shim_->Include(4242).ok());
  EXPECT_FALSE(shim_->Call(request).allowed());
  EXPECT_EQ(host->calls(), 1u);
}

TEST_F(EmbeddedShimTest, AnAbsentHostIsWaitedForUntilTheDeadline) {
  const ChannelId channel = Add();
  const FileRequest request = Request(1, 20 * kMs);
  const Completion held = shim_->Call(request);
  EXPECT_TRUE(held.allowed());
  EXPECT_EQ(held.outcome, static_cast<uint32_t>(BH_OUTCOME_POLICY));
  EXPECT_EQ(held.reason, static_cast<uint32_t>(BH_REASON_ABSENT));
  EXPECT_GE(held.ended_ns, request.deadline_ns);

  bh_policy policy = DefaultPolicy();
  RuleOf(policy, BH_REASON_ABSENT) = {BH_ACTION_DENY, BH_ACTION_DENY};
  ASSERT_TRUE(shim_->SetPolicy(channel, policy).ok());
  const FileRequest at_once = Request(1);
  const Completion denied = shim_->Call(at_once);
  EXPECT_FALSE(denied.allowed());
  EXPECT_LT(denied.ended_ns, at_once.deadline_ns);
}

TEST_F(EmbeddedShimTest, ACallThatWaitsIsAnsweredByTheHostThatComes) {
  const ChannelId channel = Add();
  auto pending = shim_->Start(Request(1));
  Completion completion;
  EXPECT_FALSE(shim_->Poll(*pending, &completion));
  auto host = StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kDeny; });
  ASSERT_TRUE(shim_->WaitUntil(*pending, MonotonicAfterNs(kLongNs), &completion));
  EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_ANSWERED));
  EXPECT_FALSE(completion.allowed());
}

TEST_F(EmbeddedShimTest, ADeclinedCallEndsByThePolicyForThat) {
  const ChannelId channel = Add();
  auto host = StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kDecline; });
  const Completion completion = shim_->Call(Request(1, 20 * kMs));
  EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_POLICY));
  EXPECT_EQ(completion.reason, static_cast<uint32_t>(BH_REASON_DECLINED));
  EXPECT_FALSE(completion.allowed());
}

TEST_F(EmbeddedShimTest, AHangIsReportedAndTheCallEndsByItsDeadline) {
  const ChannelId channel = Add();
  auto host = StartHost(channel, 3, [](const FakeHostCall&) { return TestAnswer::kDropped; });
  const Completion completion = shim_->Call(Request(1, 20 * kMs));
  EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_POLICY))
      << OutcomeText(completion);
  EXPECT_EQ(completion.reason, static_cast<uint32_t>(BH_REASON_OVERDUE));
  ASSERT_EQ(observer_.WaitFor(FakeObserver::News::kHung, 1), 1u);
  EXPECT_EQ(observer_.all()[0].channel, channel);
  EXPECT_EQ(observer_.all()[0].generation, 3u);
}

TEST_F(EmbeddedShimTest, TheNextGenerationGetsWhatACrashLeft) {
  const ChannelId channel = Add();
  std::promise<void> taken;
  auto first = StartHost(channel, 1, [&taken](const FakeHostCall&) {
    taken.set_value();
    return TestAnswer::kDropped;
  });
  auto caller = std::async(std::launch::async, [&] { return shim_->Call(Request(1)); });
  taken.get_future().wait();
  ASSERT_TRUE(first->Die(BH_END_CRASHED).ok());
  std::atomic<uint32_t> attempt{0};
  auto second = StartHost(channel, 2, [&attempt](const FakeHostCall& call) {
    attempt.store(call.attempt);
    return TestAnswer::kDeny;
  });
  const Completion completion = caller.get();
  EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_ANSWERED));
  EXPECT_FALSE(completion.allowed());
  EXPECT_EQ(completion.issues, 2u);
  EXPECT_EQ(attempt.load(), 1u);
}

TEST_F(EmbeddedShimTest, ACallThatKillsTwoHostsIsPoison) {
  const ChannelId channel = Add();
  auto caller = std::async(std::launch::async, [&] { return shim_->Call(Request(1)); });
  for (uint32_t generation = 1; generation <= 2; ++generation) {
    std::promise<void> taken;
    auto host = StartHost(channel, generation, [&taken](const FakeHostCall&) {
      taken.set_value();
      return TestAnswer::kDropped;
    });
    taken.get_future().wait();
    ASSERT_TRUE(host->Die(BH_END_CRASHED).ok());
  }
  const Completion completion = caller.get();
  EXPECT_FALSE(completion.allowed());
  EXPECT_EQ(completion.reason, static_cast<uint32_t>(BH_REASON_POISON));
  EXPECT_EQ(observer_.WaitFor(FakeObserver::News::kPoison, 1), 1u);
}

TEST_F(EmbeddedShimTest, ACachedVerdictHoldsUntilTheContentChanges) {
  const ChannelId channel = Add();
  auto driver = [](const FakeHostCall&) { return TestAnswer::kAllowCacheable; };
  auto host = StartHost(channel, 1, driver, 1, AllCallbacks(), /*content_version=*/1);
  EXPECT_EQ(shim_->Call(Request(9)).outcome, static_cast<uint32_t>(BH_OUTCOME_ANSWERED));
  EXPECT_EQ(shim_->Call(Request(9)).outcome, static_cast<uint32_t>(BH_OUTCOME_CACHED));
  FileRequest changed = Request(9);
  changed.change = 2;
  EXPECT_EQ(shim_->Call(changed).outcome, static_cast<uint32_t>(BH_OUTCOME_ANSWERED));
  ASSERT_TRUE(host->Die(BH_END_STOPPED).ok());
  auto next = StartHost(channel, 2, driver, 1, AllCallbacks(), /*content_version=*/2);
  EXPECT_EQ(shim_->Call(changed).outcome, static_cast<uint32_t>(BH_OUTCOME_ANSWERED));
}

TEST_F(EmbeddedShimTest, DriversAreAskedByAltitudeAndTheFirstDenialEndsIt) {
  const ChannelId low = Add(Spec(100));
  const ChannelId high = Add(Spec(2000));
  auto below = StartHost(low, 1, [](const FakeHostCall& call) {
    return call.file.inode == 2 ? TestAnswer::kDeny : TestAnswer::kAllow;
  });
  auto above = StartHost(high, 1, [](const FakeHostCall& call) {
    return call.file.inode == 3 ? TestAnswer::kDeny : TestAnswer::kAllow;
  });
  EXPECT_TRUE(shim_->Call(Request(1)).allowed());
  EXPECT_FALSE(shim_->Call(Request(2)).allowed());
  EXPECT_EQ(below->calls(), 2u);
  EXPECT_FALSE(shim_->Call(Request(3)).allowed());
  EXPECT_EQ(above->calls(), 3u);
  EXPECT_EQ(below->calls(), 2u) << "a denied call must not go further down";
}

TEST_F(EmbeddedShimTest, TheObserverIsToldOfDenialsAndOfWhatAnAuditedDriverWouldDeny) {
  const ChannelId channel = Add();
  auto host = StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kDeny; });
  EXPECT_FALSE(shim_->Call(Request(7)).allowed());
  bh_policy policy = DefaultPolicy();
  policy.mode = BH_MODE_AUDIT;
  ASSERT_TRUE(shim_->SetPolicy(channel, policy).ok());
  EXPECT_TRUE(shim_->Call(Request(8)).allowed());
  ASSERT_TRUE(shim_->SetPolicy(channel, DefaultPolicy()).ok());
  FileRequest audited = Request(9);
  audited.audited = true;
  EXPECT_TRUE(shim_->Call(audited).allowed());

  const std::vector<bh_denial> denials = observer_.Denials(3);
  ASSERT_EQ(denials.size(), 3u);
  const uint32_t expected[] = {0, BH_AUDITED_DRIVER, BH_AUDITED_GUARD};
  for (size_t i = 0; i < denials.size(); ++i) {
    EXPECT_EQ(denials[i].inode, 7 + i);
    EXPECT_EQ(denials[i].audited, expected[i]);
    EXPECT_EQ(denials[i].by, static_cast<uint32_t>(BH_DENIED_BY_DRIVER));
  }
}

TEST_F(EmbeddedShimTest, OneThreadKeepsManyCallsInFlight) {
  const ChannelId channel = Add();
  auto host = StartHost(
      channel, 1,
      [](const FakeHostCall& call) {
        return call.file.inode % 2 == 0 ? TestAnswer::kAllow : TestAnswer::kDeny;
      },
      2);
  std::vector<std::unique_ptr<EmbeddedShim::PendingCall>> calls;
  for (uint64_t inode = 0; inode < 200; ++inode) {  // more than there are slots
    FileRequest request = Request(inode);
    const std::string path = "/" + std::to_string(inode);
    request.path = path;
    calls.push_back(shim_->Start(request));
  }
  for (uint64_t inode = 0; inode < 200; ++inode) {
    Completion completion;
    // Any of them may hold the slots that this one needs, so all are polled until it has ended.
    while (!shim_->Poll(*calls[inode], &completion)) {
      for (uint64_t other = inode + 1; other < 200; ++other) {
        Completion ignored;
        shim_->Poll(*calls[other], &ignored);
      }
    }
    EXPECT_EQ(completion.allowed(), inode % 2 == 0) << inode << ' ' << OutcomeText(completion);
  }
}

TEST_F(EmbeddedShimTest, ACancelledCallEndsAtOnceAndDisturbsNoOther) {
  const ChannelId channel = Add();
  auto pending = shim_->Start(Request(1));
  const Completion completion = shim_->Cancel(*pending);
  EXPECT_EQ(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_CANCELLED));
  auto host = StartHost(channel, 1, [](const FakeHostCall&) { return TestAnswer::kAllow; });
  EXPECT_EQ(shim_->Call(Request(2)).outcome, static_cast<uint32_t>(BH_OUTCOME_ANSWERED));
}

TEST_F(EmbeddedShimTest, AHostCanNeverWriteTheCallRegion) {
  const ChannelId channel = Add();
  absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(channel);
  ASSERT_TRUE(regions.ok()) << regions.status();
  const int fd = regions->call_region.get();
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  void* readable = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(readable, MAP_FAILED);
  EXPECT_NE(mprotect(readable, 4096, PROT_READ | PROT_WRITE), 0);
  munmap(readable, 4096);
  EXPECT_NE(ftruncate(fd, 0), 0);
}

TEST_F(EmbeddedShimTest, MisuseIsAnErrorThatSaysWhat) {
  EXPECT_EQ(shim_->Descriptors(0).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(shim_->EndGeneration(5, 1, BH_END_STOPPED).status().code(),
            absl::StatusCode::kNotFound);
  ChannelSpec bad = Spec();
  bad.geometry.lanes = 0;
  EXPECT_EQ(shim_->AddChannel(bad).status().code(), absl::StatusCode::kInvalidArgument);
  bad = Spec();
  bad.cache_entries = 3;
  EXPECT_EQ(shim_->AddChannel(bad).status().code(), absl::StatusCode::kInvalidArgument);

  const ChannelId channel = Add();
  EXPECT_EQ(shim_->EndGeneration(channel, 1, BH_END_CRASHED).status().code(),
            absl::StatusCode::kNotFound);
  auto driver = [](const FakeHostCall&) { return TestAnswer::kAllow; };
  auto host = StartHost(channel, 4, driver);
  EXPECT_EQ(
      shim_
          ->BeginGeneration(
              channel,
              GenerationSpec(
                  5, SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS}),
                  SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS}),
                  1),
              UniqueFd())
          .code(),
      absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(host->Die(BH_END_STOPPED).ok());
  EXPECT_EQ(
      shim_
          ->BeginGeneration(
              channel,
              GenerationSpec(
                  4, SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS}),
                  SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS}),
                  1),
              UniqueFd())
          .code(),
      absl::StatusCode::kFailedPrecondition)
      << "a generation number is used only once";
  for (uint32_t i = 1; i < BH_CHANNELS_MAX; ++i) Add();
  EXPECT_EQ(shim_->AddChannel(Spec()).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(EmbeddedShimTest, GenerationsComeAndGoUnderLoadAndNoCallIsLostOrWrong) {
  const ChannelId channel = Add();
  constexpr int kCallers = 4;
  constexpr uint64_t kCallsEach = 2500;
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> answered{0};
  std::atomic<int> callers{kCallers};
  std::vector<std::thread> threads;
  UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(write(file.get(), "x", 1), 1);
  for (int caller = 0; caller < kCallers; ++caller) {
    threads.emplace_back([&, caller] {
      for (uint64_t i = 0; i < kCallsEach; ++i) {
        FileRequest request = Request(static_cast<uint64_t>(caller) * kCallsEach + i);
        if (i % 4 == 0) request.descriptor = file.get();
        const Completion completion = shim_->Call(request);
        if (completion.outcome == BH_OUTCOME_ANSWERED) answered.fetch_add(1);
        if (completion.allowed() != (request.inode % 3 != 0)) wrong.fetch_add(1);
      }
      callers.fetch_sub(1);
    });
  }
  // Killed from outside, which does not count against the calls so soon. A generation lives for
  // some calls, or until the callers have ended.
  uint32_t generation = 0;
  while (callers.load() > 0) {
    std::atomic<uint32_t> to_live{150};
    auto host = StartHost(
        channel, ++generation,
        [&to_live](const FakeHostCall& call) {
          if (to_live.load() == 0) return TestAnswer::kDropped;
          to_live.fetch_sub(1);
          return call.file.inode % 3 == 0 ? TestAnswer::kDeny : TestAnswer::kAllow;
        },
        1);
    ASSERT_NE(host, nullptr);
    while (to_live.load() > 0 && callers.load() > 0) std::this_thread::yield();
    ASSERT_TRUE(host->Die(BH_END_STOPPED).ok());
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0u);
  EXPECT_EQ(answered.load(), kCallers * kCallsEach);
  EXPECT_GT(generation, 10u);
  absl::StatusOr<bh_statistics> statistics = shim_->Statistics(channel);
  ASSERT_TRUE(statistics.ok());
  EXPECT_EQ(statistics->calls, kCallers * kCallsEach);
  EXPECT_EQ(statistics->answered, kCallers * kCallsEach);
  EXPECT_EQ(statistics->in_flight, 0u);
}

// Overwrites every word that a host may write, through a mapping of its own.
class RandomWriter {
 public:
  RandomWriter(UniqueFd reply_region, size_t bytes, uint32_t seed) : bytes_(bytes) {
    memory_ = static_cast<uint64_t*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, reply_region.get(), 0));
    EXPECT_NE(memory_, MAP_FAILED);
    thread_ = std::thread([this, seed] { Run(seed); });
  }
  ~RandomWriter() {
    stop_.store(true);
    thread_.join();
    munmap(memory_, bytes_);
  }

 private:
  void Run(uint32_t seed) {
    std::mt19937_64 random(seed);
    const size_t words = bytes_ / sizeof(uint64_t);
    while (!stop_.load(std::memory_order_relaxed)) {
      const size_t at = random() % words;
      uint64_t value = random();
      switch (value % 4) {
        case 0:
          value = 0;
          break;
        case 1:  // a ticket that could be valid
          value = bh_ticket_make(1 + static_cast<uint32_t>(value >> 32) % 8,
                                 static_cast<uint32_t>(value >> 8) % 64);
          break;
        case 2:  // the value of another word: a reply twice, a reply of another slot
          value = __atomic_load_n(&memory_[random() % words], __ATOMIC_RELAXED);
          break;
        default:
          break;
      }
      __atomic_store_n(&memory_[at], value, __ATOMIC_RELAXED);
    }
  }

  const size_t bytes_;
  uint64_t* memory_ = nullptr;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Far more callers than slots, of openers of whom two share a queue. Some give up early, just as
// they are woken. A wake that is lost shows in a call that reaches its deadline of a minute.
TEST_F(EmbeddedShimTest, CallersThatWaitForRoomAreAllServed) {
  ChannelSpec spec = Spec();
  spec.geometry = {.lanes = 1, .slots_per_lane = 4, .call_chunks = 64, .reply_chunks = 0};
  spec.cache_entries = 0;
  const auto host = StartHost(
      Add(spec), 1, [](const FakeHostCall&) { return TestAnswer::kAllow; }, 2);
  constexpr uint32_t kOpeners[] = {1001, 1002, 1017, 1};
  constexpr int kThreadsEach = 8, kCallsEach = 200;
  std::atomic<int> unserved{0}, served{0};
  std::vector<std::thread> callers;
  for (const uint32_t opener : kOpeners) {
    for (int thread = 0; thread < kThreadsEach; ++thread) {
      callers.emplace_back([&, opener, thread] {
        for (int i = 0; i < kCallsEach; ++i) {
          const bool hasty = (i + thread) % 3 == 0;
          bh_call call = {};
          FillCall(Request(static_cast<uint64_t>(i), hasty ? kMs / 5 : kLongNs), 0, call);
          call.deadline_ns = MonotonicAfterNs(hasty ? kMs / 5 : kLongNs);
          call.opener = opener;
          shim_->Call(&call);
          if (hasty) continue;
          (call.outcome == BH_OUTCOME_ANSWERED ? served : unserved).fetch_add(1);
        }
      });
    }
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(unserved.load(), 0);
  EXPECT_GT(served.load(), 0);
}

TEST_F(EmbeddedShimTest, WhateverAHostWritesEveryCallEndsWithAVerdict) {
  ChannelSpec spec = Spec();
  spec.cache_entries = 0;
  const ChannelId channel = Add(spec);
  absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(channel);
  ASSERT_TRUE(regions.ok()) << regions.status();
  RandomWriter writer(std::move(regions->reply_region), bh_reply_region_bytes(&spec.geometry), 7);
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  std::atomic<uint64_t> ended{0};
  for (int i = 0; i < 2; ++i) {
    callers.emplace_back([&] {
      for (uint64_t n = 0; n < 100; ++n) {
        const Completion completion = shim_->Call(Request(n, 5 * kMs));
        EXPECT_NE(completion.outcome, static_cast<uint32_t>(BH_OUTCOME_PENDING));
        EXPECT_TRUE(completion.verdict == BH_VERDICT_ALLOW ||
                    completion.verdict == BH_VERDICT_DENY);
        ended.fetch_add(1);
      }
    });
  }
  // The supervisor's part: ends a generation that broke the protocol and begins the next.
  std::thread supervisor([&] {
    for (uint32_t generation = 1; !stop.load(); ++generation) {
      if (shim_->BeginGeneration(channel, GenerationSpec(generation, AllCallbacks()), UniqueFd())
              .ok()) {
        observer_.WaitFor(FakeObserver::News::kViolation, generation, std::chrono::seconds(0));
        std::this_thread::yield();
        EXPECT_TRUE(shim_->EndGeneration(channel, generation, BH_END_HOSTILE).ok());
      }
    }
  });
  for (std::thread& caller : callers) caller.join();
  stop.store(true);
  supervisor.join();
  EXPECT_EQ(ended.load(), 200u);
}

}  // namespace
}  // namespace bulkhead
