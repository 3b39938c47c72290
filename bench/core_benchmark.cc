// SPDX-License-Identifier: Apache-2.0
//
// bench-core: what the shim's core costs where no host takes part: calls that nobody is asked
// about, that the verdict cache ends, or the policy, and the cache by itself. In the world of the
// user-mode library: the clock is CLOCK_MONOTONIC.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/report/percentiles.h"
#include "host/report/report.h"
#include "shim/core/bulkhead_core.h"
#include "shim/core/internal.h"
#include "shim/embedded/event_queue.h"
#include "shim/embedded/user_channel.h"
#include "shim/embedded/user_platform.h"

namespace bulkhead {
namespace {

constexpr uint64_t kContent = 1;
constexpr uint64_t kObjects = 1024;  // a quarter of what the cache has room for

bh_call FileCall(uint64_t inode) {
  const bh_file_args args = {.device = 1, .inode = inode, .change = 1};
  bh_call call = {};
  call.callback = BH_CALLBACK_FILE_OPEN;
  call.args_bytes = sizeof(args);
  std::memcpy(call.args, &args, sizeof(args));
  call.descriptor = -1;
  call.deadline_ns = BH_NO_DEADLINE;
  return call;
}

// A shim, and one channel that it can be given.
class World {
 public:
  World() : events_([](const CoreEvent&) {}), platform_(&events_) {
    bh_shim_init(&shim_, platform_.core());
  }
  // Null: `state` has been told why.
  bh_channel* AddChannel(benchmark::State& state) {
    ChannelSpec spec;
    spec.driver = "none";
    spec.geometry = {.lanes = 2, .slots_per_lane = 32, .call_chunks = 64, .reply_chunks = 0};
    spec.policy.rule[BH_CLASS_FILE][BH_REASON_ABSENT].action = BH_ACTION_ALLOW;
    call_region_ = Region(bh_call_region_bytes(&spec.geometry));
    reply_region_ = Region(bh_reply_region_bytes(&spec.geometry));
    absl::StatusOr<std::unique_ptr<UserChannel>> made =
        UserChannel::Create(0, spec, platform_.core(), nullptr, call_region_.get(),
                            reply_region_.get(), /*takeover=*/0);
    if (!made.ok()) {
      state.SkipWithError(std::string(made.status().message()).c_str());
      return nullptr;
    }
    channel_ = *std::move(made);
    bh_shim_add(&shim_, channel_->core());
    bh_channel_set_content_version(channel_->core(), kContent);
    return channel_->core();
  }
  // A call of a caller who fills it anew each time; each must end like this.
  void Run(benchmark::State& state, uint32_t outcome) {
    for ([[maybe_unused]] const auto _ : state) {
      bh_call call = FileCall(0);
      bh_call_run(&shim_, &call);
      if (call.outcome != outcome || call.verdict != BH_VERDICT_ALLOW) {
        state.SkipWithError(absl::StrCat("a call ended by ", call.outcome).c_str());
        break;
      }
    }
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  static std::unique_ptr<void, Free> Region(size_t bytes) {
    const size_t room = bh_page_align(bytes);
    std::unique_ptr<void, Free> region(std::aligned_alloc(4096, room));
    std::memset(region.get(), 0, room);
    return region;
  }

  EventQueue events_;
  UserPlatform platform_;
  bh_shim shim_ = {};
  std::unique_ptr<void, Free> call_region_;
  std::unique_ptr<void, Free> reply_region_;
  std::unique_ptr<UserChannel> channel_;
};

void FillCache(bh_channel* channel) {
  for (uint64_t inode = 0; inode < kObjects; ++inode) {
    const bh_call call = FileCall(inode);
    bh_cache_store(&channel->cache, &call, kContent, BH_VERDICT_ALLOW);
  }
}

void CallUnasked(benchmark::State& state) {
  World world;
  world.Run(state, BH_OUTCOME_UNASKED);
}
BENCHMARK(CallUnasked)->Name("call_unasked");

void CallCached(benchmark::State& state) {
  World world;
  bh_channel* channel = world.AddChannel(state);
  if (channel == nullptr) return;
  FillCache(channel);
  world.Run(state, BH_OUTCOME_CACHED);
}
BENCHMARK(CallCached)->Name("call_cached");

void CallByPolicy(benchmark::State& state) {
  World world;
  if (world.AddChannel(state) == nullptr) return;
  world.Run(state, BH_OUTCOME_POLICY);
}
BENCHMARK(CallByPolicy)->Name("call_by_policy");

// `known`: the objects that are asked for are those that the cache has.
void CacheFind(benchmark::State& state, bool known) {
  World world;
  bh_channel* channel = world.AddChannel(state);
  if (channel == nullptr) return;
  FillCache(channel);
  std::vector<bh_call> calls;
  for (uint64_t i = 0; i < kObjects; ++i) calls.push_back(FileCall(known ? i : kObjects + i));
  size_t i = 0;
  uint64_t found = 0;
  for ([[maybe_unused]] const auto _ : state) {
    found += bh_cache_find(&channel->cache, &calls[i++ % kObjects], kContent, 0) != 0 ? 1u : 0u;
  }
  // Sets are small: some objects push others out.
  const bool most = found * 10 > static_cast<uint64_t>(state.iterations()) * 9;
  if (known ? !most : found != 0) state.SkipWithError("the cache knows other objects");
}
BENCHMARK_CAPTURE(CacheFind, hit, true)->Name("cache_find_hit");
BENCHMARK_CAPTURE(CacheFind, miss, false)->Name("cache_find_miss");

void CacheStore(benchmark::State& state) {
  World world;
  bh_channel* channel = world.AddChannel(state);
  if (channel == nullptr) return;
  std::vector<bh_call> calls;
  for (uint64_t i = 0; i < kObjects; ++i) calls.push_back(FileCall(i));
  size_t i = 0;
  for ([[maybe_unused]] const auto _ : state) {
    bh_cache_store(&channel->cache, &calls[i++ % kObjects], kContent, BH_VERDICT_ALLOW);
  }
  if (bh_cache_find(&channel->cache, &calls[(i - 1) % kObjects], kContent, 0) == 0) {
    state.SkipWithError("the cache does not know what it was given last");
  }
}
BENCHMARK(CacheStore)->Name("cache_store");

// Keeps what was measured for the report.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      if (run.error_occurred) {
        std::cerr << "bench-core: " << run.benchmark_name() << ": " << run.error_message << "\n";
        ++failed_;
      } else {
        times_ns_[run.run_name.function_name].push_back(run.GetAdjustedRealTime());
      }
    }
  }
  Report MakeReport() const {
    Report report("bench core");
    for (const auto& [name, times_ns] : times_ns_) {
      report.AddInfo(absl::StrCat(name, "_p50"), ComputePercentiles(times_ns).p50, "ns");
    }
    report.AddFigure("failed", failed_, "", 0, Report::Relation::kAtMost);
    return report;
  }

 private:
  std::map<std::string, std::vector<double>> times_ns_;  // one for each repetition
  int failed_ = 0;
};

int Main(bool short_form, const std::string& json) {
  std::vector<std::string> words = {
      "bench-core", "--benchmark_enable_random_interleaving=true",
      short_form ? "--benchmark_repetitions=3" : "--benchmark_repetitions=21",
      short_form ? "--benchmark_min_time=0.01" : "--benchmark_min_time=0.05"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);
  const Report report = collector.MakeReport();
  report.PrintTable(std::cout);
  if (!json.empty()) {
    if (absl::Status status = report.WriteJson(json); !status.ok()) {
      std::cerr << "bench-core: " << status.message() << "\n";
      return 2;
    }
  }
  return report.ExitCode();
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  CLI::App app("What the shim's core costs where no host takes part");
  bool short_form = false;
  std::string json;
  app.add_flag("--short", short_form, "The form for the test suite: 3 repetitions");
  app.add_option("--json", json, "Write the report to this file")->type_name("FILE");
  CLI11_PARSE(app, argc, argv);
  return bulkhead::Main(short_form, json);
}
