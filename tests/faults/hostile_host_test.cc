// SPDX-License-Identifier: Apache-2.0
//
// Callers with hostile hosts. Whatever a host writes to the memory that it may write: each call
// ends once, by its deadline, with a valid outcome, and the next honest host serves again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/generation_spec.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/faults/hostile_peer_unsafe.h"
#include "tests/testing/fake_host.h"

namespace bulkhead {
namespace {

constexpr uint64_t kMs = kNanosecondsPerMillisecond;
const bh_callback_set kCallbacks =
    SetOf({BH_CALLBACK_FILE_OPEN, BH_CALLBACK_FILE_EXEC, BH_CALLBACK_FILE_ACCESS});
constexpr int kCallers = 4;
// The delay that the scheduler of a busy machine may add to a deadline.
constexpr uint64_t kSlackNs = (kSanitized ? 1000 : 100) * kMs;
// How long a peer may run when it is not detected.
constexpr std::chrono::milliseconds kRound(100);
constexpr std::chrono::milliseconds kLongRound(1000);

uint64_t SecondsToRun() {
  const char* text = std::getenv("BULKHEAD_HOSTILE_SECONDS");
  const int seconds = text != nullptr ? std::atoi(text) : 5;
  return static_cast<uint64_t>(seconds > 0 ? seconds : 5);
}

// The events on which a supervisor acts.
class Alarm final : public ShimLink::Observer {
 public:
  void OnOverdue(ChannelId, uint32_t generation, uint64_t) override {
    Raise(generation, BH_END_HUNG);
  }
  void OnViolation(ChannelId, uint32_t generation, uint32_t) override {
    violations_.fetch_add(1);
    Raise(generation, BH_END_HOSTILE);
  }
  void OnPoison(ChannelId, uint32_t, uint64_t) override {}
  void OnTakeover(uint32_t, uint32_t) override {}
  void OnShimLost() override {}

  // The cause with which to end this generation: the violation reported until then, or as if killed
  // from outside.
  bh_end WaitFor(uint32_t generation, std::chrono::milliseconds limit) {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto raised = [&] { return generation_ == generation; };
    return changed_.wait_for(lock, limit, raised) ? cause_ : BH_END_KILLED;
  }
  uint64_t violations() const { return violations_.load(); }

 private:
  void Raise(uint32_t generation, bh_end cause) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      generation_ = generation;
      cause_ = cause;
    }
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t generation_ = 0;
  bh_end cause_ = BH_END_KILLED;
  std::atomic<uint64_t> violations_{0};
};

// Time during which this whole process did not run (stopped process, busy machine), for which
// neither host nor shim is at fault: measured by a thread that only reads the clock.
class StolenTime {
 public:
  StolenTime()
      : thread_([this] {
          uint64_t last_ns = MonotonicNowNs();
          while (!stop_.load()) {
            std::this_thread::sleep_for(kTick);
            const uint64_t now_ns = MonotonicNowNs(), took_ns = now_ns - last_ns;
            if (took_ns > kSlackNs / 2) sum_ns_.fetch_add(took_ns);
            last_ns = now_ns;
            ticks_.fetch_add(1);
          }
        }) {}
  ~StolenTime() {
    stop_.store(true);
    thread_.join();
  }
  uint64_t SumNs() const { return sum_ns_.load(); }
  // All stolen time until now, complete after one more tick.
  uint64_t WholeSumNs() const {
    for (const uint64_t before = ticks_.load(); ticks_.load() < before + 2;) {
      std::this_thread::sleep_for(kTick);
    }
    return SumNs();
  }

 private:
  static constexpr std::chrono::milliseconds kTick{5};
  std::atomic<uint64_t> sum_ns_{0}, ticks_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// The results at the callers.
struct Tally {
  std::atomic<uint64_t> calls{0}, answered{0}, by_policy{0}, illegal{0}, late{0};
  std::atomic<uint64_t> worst_ns{0};  // past a deadline
  std::array<std::atomic<uint64_t>, BH_REASON_COUNT> reasons = {};

  // `stolen_ns`: the sum when the call began.
  void Add(const FileRequest& request, const Completion& completion, uint64_t now_ns,
           const StolenTime& stolen, uint64_t stolen_ns) {
    calls.fetch_add(1);
    const bool verdict =
        completion.verdict == BH_VERDICT_ALLOW || completion.verdict == BH_VERDICT_DENY;
    if (verdict && completion.outcome == BH_OUTCOME_ANSWERED) {
      answered.fetch_add(1);
    } else if (verdict && completion.outcome == BH_OUTCOME_POLICY &&
               completion.reason < BH_REASON_COUNT) {
      by_policy.fetch_add(1);
      reasons[completion.reason].fetch_add(1);
    } else {
      illegal.fetch_add(1);
    }
    if (now_ns <= request.deadline_ns) return;
    uint64_t over_ns = now_ns - request.deadline_ns;
    if (over_ns > kSlackNs) {
      over_ns -= std::min(over_ns, stolen.WholeSumNs() - stolen_ns);
      if (over_ns > kSlackNs) late.fetch_add(1);
    }
    uint64_t worst = worst_ns.load();
    while (over_ns > worst && !worst_ns.compare_exchange_weak(worst, over_ns)) {
    }
  }
};

class HostileHost : public ::testing::Test {
 protected:
  void SetUp() override {
    auto shim = EmbeddedShim::Create({});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    shim_->SetObserver(&alarm_);
    ChannelSpec spec;
    spec.driver = "hostile";
    spec.geometry = geometry_;
    spec.cache_entries = 0;
    spec.notify_entries = BH_NOTIFICATION_ENTRIES_MIN;
    auto channel = shim_->AddChannel(spec);
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_ = *channel;
    ASSERT_TRUE(shim_->SetNotifications(channel_, bh_set_everything()).ok());
    file_.reset(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  }
  void TearDown() override { StopCallers(); }

  void StartCallers() {
    for (int caller = 0; caller < kCallers; ++caller) {
      callers_.emplace_back([this, caller] {
        std::mt19937_64 random(static_cast<uint64_t>(caller));
        while (!stop_.load()) {
          FileRequest request;
          request.inode = random();
          request.path = "/somewhere/or/other";
          if (random() % 2 == 0) request.descriptor = file_.get();
          request.deadline_ns = MonotonicAfterNs((1 + random() % 30) * kMs);
          bh_notification notification = {};
          notification.kind = BH_NOTIFY_PROCESS_CREATED;
          shim_->Notify(notification);
          const uint64_t stolen_ns = stolen_.SumNs();
          const Completion completion = shim_->Call(request);
          tally_.Add(request, completion, MonotonicNowNs(), stolen_, stolen_ns);
        }
      });
    }
  }
  void StopCallers() {
    stop_.store(true);
    for (std::thread& caller : callers_) caller.join();
    callers_.clear();
  }

  // One hostile generation, and its end by the rules of a supervisor.
  void RunHostile(Hostility hostility, uint64_t seed, std::chrono::milliseconds round) {
    const uint32_t generation = ++generation_;
    auto regions = shim_->Descriptors(channel_);
    ASSERT_TRUE(regions.ok()) << regions.status();
    UniqueFd shim_files;
    auto peer = HostilePeer::Start(*std::move(regions), generation, geometry_, hostility, seed,
                                   &shim_files);
    ASSERT_TRUE(peer.ok()) << peer.status();
    const absl::Status begun = shim_->BeginGeneration(
        channel_, GenerationSpec(generation, kCallbacks, kCallbacks, 1, bh_set_everything()),
        std::move(shim_files));
    ASSERT_TRUE(begun.ok()) << begun;
    const bh_end cause = alarm_.WaitFor(generation, round);
    EXPECT_TRUE(peer->End()) << "the peer ended by itself: " << Name(hostility);
    const absl::Status ended = shim_->EndGeneration(channel_, generation, cause);
    EXPECT_TRUE(ended.ok() || absl::IsNotFound(ended)) << ended;
  }

  // Checks that no call is lost, and that an honest host finds everything in order.
  void ExpectNothingLost(uint64_t generations);

  const bh_geometry geometry_ = {
      .lanes = 2, .slots_per_lane = 4, .call_chunks = 16, .reply_chunks = 4};
  Alarm alarm_;
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  uint32_t generation_ = 0;
  UniqueFd file_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> callers_;
  StolenTime stolen_;
  Tally tally_;
};

void HostileHost::ExpectNothingLost(uint64_t generations) {
  EXPECT_EQ(tally_.illegal.load(), 0u);
  EXPECT_EQ(tally_.late.load(), 0u) << "worst: " << tally_.worst_ns.load() / 1000 << " us";
  EXPECT_GT(tally_.answered.load(), 0u) << "the peers that answer must be accepted as hosts";
  EXPECT_GT(alarm_.violations(), 0u);

  const auto statistics = shim_->Statistics(channel_);
  ASSERT_TRUE(statistics.ok());
  EXPECT_EQ(statistics->calls, tally_.calls.load());
  EXPECT_EQ(statistics->answered, tally_.answered.load());
  EXPECT_EQ(statistics->in_flight, 0u);
  // For any read positions that the hosts wrote: each notification is delivered, unread or lost.
  EXPECT_EQ(statistics->notified, tally_.calls.load());
  EXPECT_LE(statistics->unread, uint64_t{BH_NOTIFICATION_ENTRIES_MIN});
  uint64_t by_policy = 0;
  for (size_t reason = 0; reason < BH_REASON_COUNT; ++reason) {
    EXPECT_EQ(statistics->by_policy[reason], tally_.reasons[reason].load()) << reason;
    by_policy += statistics->by_policy[reason];
  }
  EXPECT_EQ(statistics->calls, statistics->answered + by_policy);
  EXPECT_EQ(statistics->cached + statistics->cancelled, 0u);
  std::printf(
      "%llu generations, %llu calls: %llu answered, %llu by policy; %llu violations; worst "
      "%llu us past its deadline\n",
      static_cast<unsigned long long>(generations),
      static_cast<unsigned long long>(tally_.calls.load()),
      static_cast<unsigned long long>(tally_.answered.load()),
      static_cast<unsigned long long>(by_policy),
      static_cast<unsigned long long>(statistics->violations),
      static_cast<unsigned long long>(tally_.worst_ns.load() / 1000));

  // All slots and all payload room are available again for an honest host.
  auto host = FakeHost::Start(*shim_, channel_, ++generation_,
                              [](const FakeHostCall&) { return TestAnswer::kAllow; });
  ASSERT_TRUE(host.ok()) << host.status();
  std::vector<std::thread> honest;
  std::atomic<uint64_t> answered{0};
  for (int caller = 0; caller < kCallers; ++caller) {
    honest.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        FileRequest request;
        request.path = "/somewhere/or/other";
        request.descriptor = file_.get();
        request.deadline_ns = MonotonicAfterNs(60 * kNanosecondsPerSecond);
        const Completion completion = shim_->Call(request);
        if (completion.outcome == BH_OUTCOME_ANSWERED && completion.allowed())
          answered.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : honest) caller.join();
  EXPECT_EQ(answered.load(), 200u * kCallers);
}

TEST_F(HostileHost, CannotHoldACallerOrLeaveAnythingBehind) {
  StartCallers();
  const uint64_t until_ns = MonotonicAfterNs(SecondsToRun() * kNanosecondsPerSecond);
  uint64_t round = 0;
  do {
    for (const Hostility hostility : kHostilities) {
      ASSERT_NO_FATAL_FAILURE(RunHostile(hostility, ++round, kRound));
    }
  } while (MonotonicNowNs() < until_ns);
  StopCallers();
  ExpectNothingLost(round);
}

// One kind alone, at full speed until it is detected.
TEST_F(HostileHost, CannotHoldACallerByRandomWrites) {
  StartCallers();
  const uint64_t until_ns = MonotonicAfterNs(SecondsToRun() * kNanosecondsPerSecond);
  uint64_t round = 0;
  do {
    ASSERT_NO_FATAL_FAILURE(RunHostile(Hostility::kMutate, ++round, kLongRound));
  } while (MonotonicNowNs() < until_ns);
  StopCallers();
  ExpectNothingLost(round);
}

}  // namespace
}  // namespace bulkhead
