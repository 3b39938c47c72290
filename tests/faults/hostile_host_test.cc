// SPDX-License-Identifier: Apache-2.0
//
// Callers with hostile hosts. Whatever a host writes to the memory that it may write: each call
// ends once, by its deadline, with a valid outcome, and the next honest host serves again.
//
// And each kind of attack comes to the end that kExpectations states for it: the host is convicted,
// or it goes on to serve. One that does neither, and keeps its callers from service undetected,
// fails the test.
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
#include <iterator>
#include <map>
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
// What may become of a peer: bits, for a set of them.
enum Ending : uint32_t {
  kNeither = 0,         // not enough answers, and no event: never right
  kViolation = 1 << 0,  // it broke the protocol
  kOverdue = 1 << 1,    // it let a deadline pass
  kServes = 1 << 2,     // its callers get kServedCalls answers
};

// `endings`: those that are right for such a peer. Where to be overdue is none of them, callers
// have patience: their deadlines are far away, so that a busy machine convicts no peer. A peer that
// serves ends when it has answered them all; one that does not leaves them to the next, which
// stands behind it for that.
struct Expectation {
  Hostility hostility;
  uint32_t endings;
  constexpr bool patient() const { return (endings & kOverdue) == 0; }
};
constexpr Expectation kExpectations[] = {
    {Hostility::kGarbage, kViolation},
    // The first or the second answer counts: both are verdicts.
    {Hostility::kAnswerTwice, kServes},
    // Each time it attaches it goes on where it was.
    {Hostility::kReopen, kServes},
    // A ticket that is stored over an answer before its caller looked takes the answer away.
    {Hostility::kReplay, kServes | kOverdue | kViolation},
    // A bell that rings 128 times for one call is a violation, if no deadline comes first.
    {Hostility::kScribble, kOverdue | kViolation},
    {Hostility::kScribbleBells, kOverdue | kViolation},
    {Hostility::kSilent, kOverdue},
    {Hostility::kMutate, kOverdue | kViolation},
};
static_assert(std::size(kExpectations) == std::size(kHostilities));
static_assert(kExpectations[0].patient() && kExpectations[1].endings == kServes);

constexpr uint64_t kServedCalls = 200;
constexpr uint64_t kPatienceNs = 60 * kNanosecondsPerSecond;
// A peer that came to none of the endings by then has come to kNeither.
constexpr std::chrono::seconds kDetectedWithin(30);

uint64_t SecondsToRun() {
  const char* text = std::getenv("BULKHEAD_HOSTILE_SECONDS");
  const int seconds = text != nullptr ? std::atoi(text) : 5;
  return static_cast<uint64_t>(seconds > 0 ? seconds : 5);
}

// The events on which a supervisor acts.
class Alarm final : public ShimLink::Observer {
 public:
  void OnHung(ChannelId, uint32_t generation, uint64_t, uint32_t) override {
    Raise(generation, kOverdue);
  }
  void OnViolation(ChannelId, uint32_t generation, uint32_t) override {
    violations_.fetch_add(1);
    Raise(generation, kViolation);
  }
  void OnPoison(ChannelId, uint32_t, uint64_t) override {}
  void OnTakeover(uint32_t, uint32_t) override {}
  void OnShimLost() override {}

  // What becomes of this generation. `serves`: that it serves is an end.
  Ending WaitFor(uint32_t generation, bool serves) {
    std::unique_lock<std::mutex> lock(mutex_);
    served_from_ = answers_.load();
    const auto ended = [&] {
      return generation_ == generation ||
             (serves && answers_.load() - served_from_.load() >= kServedCalls);
    };
    if (!changed_.wait_for(lock, kDetectedWithin, ended)) return kNeither;
    return generation_ == generation ? ending_ : kServes;
  }
  void CountAnswer() {
    if (answers_.fetch_add(1) + 1 - served_from_.load() != kServedCalls) return;
    { std::lock_guard<std::mutex> lock(mutex_); }
    changed_.notify_all();
  }
  uint64_t violations() const { return violations_.load(); }

 private:
  // The first event of a generation counts; one of a generation before it comes too late.
  void Raise(uint32_t generation, Ending ending) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (generation <= generation_) return;
      generation_ = generation;
      ending_ = ending;
    }
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t generation_ = 0;
  Ending ending_ = kNeither;
  std::atomic<uint64_t> violations_{0}, answers_{0}, served_from_{0};
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
  std::atomic<uint64_t> patient_unanswered_{0};  // calls with patience that ended otherwise
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
          const bool patient = BeginCall();
          request.deadline_ns = MonotonicAfterNs(patient ? kPatienceNs : (1 + random() % 30) * kMs);
          bh_notification notification = {};
          notification.kind = BH_NOTIFY_PROCESS_CREATED;
          shim_->Notify(notification);
          const uint64_t stolen_ns = stolen_.SumNs();
          const Completion completion = shim_->Call(request);
          tally_.Add(request, completion, MonotonicNowNs(), stolen_, stolen_ns);
          if (completion.outcome == BH_OUTCOME_ANSWERED) {
            alarm_.CountAnswer();
          } else if (patient) {
            patient_unanswered_.fetch_add(1);
          }
          EndCall(patient);
        }
      });
    }
  }
  void StopCallers() {
    stop_.store(true);
    for (std::thread& caller : callers_) caller.join();
    callers_.clear();
  }

  // Calls that begin from here on have patience, or not; returns when all others have ended.
  void SetPatience(bool patient) {
    std::unique_lock<std::mutex> lock(patience_mutex_);
    patient_ = patient;
    patience_changed_.wait(lock, [this] { return calls_in_flight_[!patient_] == 0; });
  }
  bool BeginCall() {
    std::lock_guard<std::mutex> lock(patience_mutex_);
    ++calls_in_flight_[patient_];
    return patient_;
  }
  void EndCall(bool patient) {
    {
      std::lock_guard<std::mutex> lock(patience_mutex_);
      --calls_in_flight_[patient];
    }
    patience_changed_.notify_all();
  }

  // One hostile generation, and its end by the rules of a supervisor.
  void RunHostile(const Expectation& expected, uint64_t seed) {
    const uint32_t generation = ++generation_;
    const char* name = Name(expected.hostility);
    if (expected.patient()) SetPatience(true);
    const uint64_t unanswered = patient_unanswered_.load();
    auto regions = shim_->Descriptors(channel_);
    ASSERT_TRUE(regions.ok()) << regions.status();
    UniqueFd shim_files;
    auto peer = HostilePeer::Start(*std::move(regions), generation, geometry_, expected.hostility,
                                   seed, &shim_files);
    ASSERT_TRUE(peer.ok()) << peer.status();
    const absl::Status begun = shim_->BeginGeneration(
        channel_, GenerationSpec(generation, kCallbacks, kCallbacks, 1, bh_set_everything()),
        std::move(shim_files));
    ASSERT_TRUE(begun.ok()) << begun;
    const Ending ending = alarm_.WaitFor(generation, (expected.endings & kServes) != 0);
    EXPECT_NE(ending & expected.endings, 0u) << name << " came to " << ending;
    // The calls that it still has, too.
    if (expected.patient() && ending == kServes) SetPatience(false);
    if (expected.patient()) {
      EXPECT_EQ(patient_unanswered_.load(), unanswered) << name;
    }
    ++endings_[static_cast<size_t>(expected.hostility)][ending];
    EXPECT_TRUE(peer->End()) << "the peer ended by itself: " << name;
    const bh_end cause = ending == kViolation ? BH_END_HOSTILE
                         : ending == kOverdue ? BH_END_HUNG
                                              : BH_END_KILLED;
    const absl::Status ended = shim_->EndGeneration(channel_, generation, cause).status();
    EXPECT_TRUE(ended.ok() || absl::IsNotFound(ended)) << ended;
  }

  // `rounds` of this kind came to the right endings, and to no other.
  void ExpectEndings(const Expectation& expected, uint64_t rounds) {
    uint64_t right = 0;
    std::printf("%-18s", Name(expected.hostility));
    for (const auto& [ending, count] : endings_[static_cast<size_t>(expected.hostility)]) {
      constexpr const char* kNames[] = {"neither", "violation", "overdue", "", "serves"};
      std::printf("  %s %llu", kNames[ending], static_cast<unsigned long long>(count));
      if ((ending & expected.endings) != 0) right += count;
    }
    std::printf("\n");
    EXPECT_EQ(right, rounds) << Name(expected.hostility);
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
  std::atomic<uint64_t> patient_unanswered_{0};  // calls with patience that ended otherwise
  std::vector<std::thread> callers_;
  std::mutex patience_mutex_;
  std::condition_variable patience_changed_;
  bool patient_ = false;
  int calls_in_flight_[2] = {};  // impatient, patient
  std::array<std::map<Ending, uint64_t>, std::size(kHostilities)> endings_;
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

TEST_F(HostileHost, IsConvictedOrServesAndLeavesNothingBehind) {
  StartCallers();
  const uint64_t until_ns = MonotonicAfterNs(SecondsToRun() * kNanosecondsPerSecond);
  uint64_t rounds = 0, seed = 0;
  do {
    for (const Expectation& expected : kExpectations) {
      ASSERT_NO_FATAL_FAILURE(RunHostile(expected, ++seed));
    }
    ++rounds;
  } while (MonotonicNowNs() < until_ns && !HasFailure());
  StopCallers();
  for (const Expectation& expected : kExpectations) ExpectEndings(expected, rounds);
  ExpectNothingLost(seed);
}

// One kind alone, at full speed until it is detected.
TEST_F(HostileHost, CannotHoldACallerByRandomWrites) {
  const Expectation& mutate = kExpectations[std::size(kExpectations) - 1];
  ASSERT_EQ(mutate.hostility, Hostility::kMutate);
  StartCallers();
  const uint64_t until_ns = MonotonicAfterNs(SecondsToRun() * kNanosecondsPerSecond);
  uint64_t rounds = 0;
  do {
    ASSERT_NO_FATAL_FAILURE(RunHostile(mutate, ++rounds));
  } while (MonotonicNowNs() < until_ns && !HasFailure());
  StopCallers();
  ExpectEndings(mutate, rounds);
  ExpectNothingLost(rounds);
}

}  // namespace
}  // namespace bulkhead
