// SPDX-License-Identifier: Apache-2.0
//
// Callers and workers fall asleep and are woken at all moments, and each call gets its answer long
// before its deadline. Not every lost wake-up can be seen:
//
//   one caller, not bound   strict: only the caller wakes a worker, only its worker wakes the
//   caller two callers             a worker that the other call wakes checks all slots, and so
//   finds the
//                           call that lost its own wake-up
//   bound workers           a caller that hands its CPU over checks again, once, 300 us later
//
// For longer: BULKHEAD_WAKE_CALLS=100000000 bin/tests/lost_wake_up_test
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 200 * kNanosecondsPerSecond;  // longer than a stop of the process
                                                               // lasts
constexpr uint64_t kPauseMaxNs = 40'000;  // both sides' spin budgets are used up within it
constexpr uint32_t kOneInPauses = 16;

uint64_t CallsToMake() {
  const char* text = std::getenv("BULKHEAD_WAKE_CALLS");
  const long long calls = text != nullptr ? std::atoll(text) : 0;
  if (calls > 0) return static_cast<uint64_t>(calls);
  return kSanitized ? 40'000 : 400'000;
}

// From time to time, and of any length up to when the other side has fallen asleep.
class Pauses {
 public:
  explicit Pauses(uint64_t seed) : random_(seed) {}
  void Maybe() {
    const uint64_t random = random_();
    if (random % kOneInPauses != 0) return;
    const uint64_t until_ns = MonotonicAfterNs((random >> 32) % kPauseMaxNs);
    while (MonotonicNowNs() < until_ns) bh_cpu_relax();
  }

 private:
  std::mt19937_64 random_;
};

struct Kind {
  bool bound;  // a worker to each CPU
  uint64_t callers;
};
constexpr Kind kKinds[] = {{false, 1}, {false, 2}, {true, 1}, {true, 2}};

// The reason why workers can't be bound here, or nothing.
std::string BindingObstacle() {
  const long cpus = sysconf(_SC_NPROCESSORS_CONF);
  if (cpus > long{BH_WORKERS_MAX}) return "there are more CPUs than workers that a host can have";
  cpu_set_t ours;
  if (sched_getaffinity(0, sizeof(ours), &ours) != 0 || CPU_COUNT(&ours) != cpus) {
    return "this process may not use all CPUs";
  }
  return "";
}

class LostWakeUp : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const std::string obstacle = GetParam().bound ? BindingObstacle() : "";
    if (!obstacle.empty()) GTEST_SKIP() << obstacle;
    const auto lanes =
        static_cast<uint32_t>(std::clamp(sysconf(_SC_NPROCESSORS_CONF), 1l, long{BH_WORKERS_MAX}));
    const uint32_t workers = GetParam().bound ? lanes : std::max(lanes, 2u);
    auto shim = EmbeddedShim::Create({});
    ASSERT_TRUE(shim.ok()) << shim.status();
    shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "pauses";
    spec.geometry = {.lanes = lanes, .slots_per_lane = 4, .call_chunks = 0, .reply_chunks = 0};
    spec.cache_entries = 0;
    auto channel = shim_->AddChannel(spec);
    ASSERT_TRUE(channel.ok()) << channel.status();
    auto regions = shim_->Descriptors(*channel);
    ASSERT_TRUE(regions.ok()) << regions.status();
    auto port = HostPort::Attach(std::move(regions->call_region), std::move(regions->reply_region),
                                 UniqueFd(), {.generation = 1, .workers = workers});
    ASSERT_TRUE(port.ok()) << port.status();
    port_ = *std::move(port);
    const absl::Status begun = shim_->BeginGeneration(
        *channel, GenerationSpec(1, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1), UniqueFd());
    ASSERT_TRUE(begun.ok()) << begun;
    for (uint32_t worker = 0; worker < workers; ++worker) {
      workers_.emplace_back([this, worker] { Work(worker); });
    }
  }
  void TearDown() override { StopWorkers(); }

  void StopWorkers() {
    if (port_) port_->StopTaking();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  void Work(uint32_t worker) {
    if (GetParam().bound) {
      EXPECT_TRUE(port_->Bind(worker));
    }
    Pauses pauses(worker);
    const bh_verdict_reply allow = {.verdict = BH_VERDICT_ALLOW, .cacheability = BH_CACHE_NOT};
    while (auto call = port_->Take(worker, kForeverNs)) {
      pauses.Maybe();
      port_->Reply(*call, BH_REPLY_DONE, {reinterpret_cast<const uint8_t*>(&allow), sizeof(allow)});
    }
  }

  void Ask(uint64_t calls, uint64_t seed) {
    Pauses pauses(seed);
    for (uint64_t i = 0; i < calls && lost_.load(std::memory_order_relaxed) == 0; ++i) {
      pauses.Maybe();
      bh_call call = {};
      call.callback = BH_CALLBACK_FILE_OPEN;
      call.args_bytes = sizeof(bh_file_args);
      call.descriptor = -1;
      call.deadline_ns = MonotonicAfterNs(kDeadlineNs);
      shim_->Call(&call);
      if (call.outcome != BH_OUTCOME_ANSWERED) lost_.fetch_add(1);
    }
  }

  std::unique_ptr<EmbeddedShim> shim_;
  std::unique_ptr<HostPort> port_;
  std::vector<std::thread> workers_;
  std::atomic<uint64_t> lost_{0};
};

TEST_P(LostWakeUp, EachCallIsAnswered) {
  const uint64_t each = CallsToMake() / std::size(kKinds) / GetParam().callers;
  const uint64_t waits_wanted = each * GetParam().callers / 100;
  // How often a side falls asleep depends on the machine. Without sleep the test tests nothing, so
  // there are rounds until it has been tested.
  uint64_t asked = 0;
  HostPort::Counters counters;
  do {
    std::vector<std::thread> callers;
    for (uint64_t caller = 0; caller < GetParam().callers; ++caller) {
      callers.emplace_back([this, each, seed = 100 + asked + caller] { Ask(each, seed); });
    }
    for (std::thread& caller : callers) caller.join();
    asked += each * GetParam().callers;
    counters = port_->counters();
  } while (lost_.load() == 0 && (counters.sleeps < waits_wanted || counters.bells < waits_wanted));
  StopWorkers();  // workers count after their replies

  counters = port_->counters();
  std::printf("%llu calls; workers slept %llu times, callers were woken %llu times; lost: %llu\n",
              static_cast<unsigned long long>(counters.calls),
              static_cast<unsigned long long>(counters.sleeps),
              static_cast<unsigned long long>(counters.bells),
              static_cast<unsigned long long>(lost_.load()));
  EXPECT_EQ(lost_.load(), 0u);
  EXPECT_EQ(counters.calls, asked);
}

std::string Name(const ::testing::TestParamInfo<Kind>& kind) {
  return std::string(kind.param.bound ? "Bound" : "NotBound") +
         (kind.param.callers == 1 ? "OneCaller" : "TwoCallers");
}
INSTANTIATE_TEST_SUITE_P(Workers, LostWakeUp, ::testing::ValuesIn(kKinds), &Name);

}  // namespace
}  // namespace bulkhead
