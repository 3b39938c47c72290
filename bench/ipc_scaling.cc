// SPDX-License-Identifier: Apache-2.0
#include "bench/ipc_scaling.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <numeric>
#include <random>

#include "absl/strings/str_cat.h"
#include "bench/bench_host.h"
#include "bench/bounded_thread.h"
#include "bench/bounded_wait.h"
#include "bench/judge.h"
#include "bench/peer.h"
#include "host/report/percentiles.h"
#include "ipc/abi/atomics.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr std::array<int, 4> kCallers = {1, 2, 4, 8};
constexpr std::array<int, 5> kHosts = {1, 2, 4, 16, 64};
constexpr uint64_t kCallersUnitNs = 50'000'000;
constexpr uint32_t kLongSpinNs = 1'000'000;  // longer than anything here: a spinner spins
constexpr uint64_t kGapNs = 30'000;          // in which a host that does not spin falls asleep
constexpr int kAwakeTrips = 1000, kAsleepTrips = 200;
constexpr double kHostsLimit = 1.2;  // p50 with 64 hosts, as a ratio to that with 4

uint64_t TimedCall(BenchChannel& channel, std::vector<double>& samples_ns, bool& answered) {
  const uint64_t started_ns = MonotonicNowNs();
  answered = channel.Call() && answered;
  const uint64_t ended_ns = MonotonicNowNs();
  samples_ns.push_back(static_cast<double>(ended_ns - started_ns));
  return ended_ns;
}

void AddTo(ScalingPoint& point, std::vector<double> samples_ns, double seconds) {
  const Percentiles ns = ComputePercentiles(std::move(samples_ns));
  point.calls_per_s.push_back(static_cast<double>(ns.count) / seconds);
  point.p50_ns.push_back(ns.p50);
  point.p99_ns.push_back(ns.p99);
}

uint64_t CallTogether(BenchChannel& channel, ScalingPoint& point) {
  struct alignas(128) Caller {
    std::vector<double> samples_ns;
    bool answered = true;
    BoundedThread thread;
  };
  std::vector<Caller> callers(static_cast<size_t>(point.count));
  std::atomic<int> ready{0};
  std::atomic<uint64_t> until_ns{0};
  for (Caller& caller : callers) {
    caller.samples_ns.reserve(200'000);
    caller.thread.Start([&channel, &caller, &ready, &until_ns] {
      ready.fetch_add(1);
      YieldUntil("the start of a unit", [&] { return until_ns.load() != 0; });
      const uint64_t until = until_ns.load();
      while (TimedCall(channel, caller.samples_ns, caller.answered) < until) {
      }
    });
  }
  YieldUntil("the start of the callers", [&] { return ready.load() == point.count; });
  until_ns.store(MonotonicAfterNs(kCallersUnitNs));
  std::vector<double> samples_ns;
  uint64_t failed = 0;
  for (Caller& caller : callers) {
    caller.thread.Join("the end of the callers");
    if (!caller.answered) ++failed;
    samples_ns.insert(samples_ns.end(), caller.samples_ns.begin(), caller.samples_ns.end());
  }
  AddTo(point, std::move(samples_ns), static_cast<double>(kCallersUnitNs) / 1e9);
  return failed;
}

uint64_t CallOne(BenchChannel& channel, bool asleep, ScalingPoint& point) {
  const int trips = asleep ? kAsleepTrips : kAwakeTrips;
  std::vector<double> samples_ns;
  bool answered = true;
  const uint64_t started_ns = MonotonicNowNs();
  for (int i = -trips / 8; i < trips; ++i) {
    if (i == 0) samples_ns.clear();  // until here everything found its place
    if (asleep) {
      const uint64_t gap_over_ns = MonotonicAfterNs(kGapNs);
      while (MonotonicNowNs() < gap_over_ns) bh_cpu_relax();
    }
    TimedCall(channel, samples_ns, answered);
  }
  AddTo(point, std::move(samples_ns), static_cast<double>(MonotonicNowNs() - started_ns) / 1e9);
  return answered ? 0 : 1;
}

// Starts `count` hosts afresh, and ends them behind the unit: what is not counted does not exist.
absl::Status HostsUnit(const std::vector<std::unique_ptr<BenchChannel>>& channels, bool asleep,
                       ScalingPoint& point, uint64_t& failed) {
  const auto count = static_cast<size_t>(point.count);
  for (size_t i = 0; i < count; ++i) {
    BenchHostOptions options;
    if (i == 0) options = {.cpu = 1, .spin_ns = asleep ? 0 : kLongSpinNs};
    if (absl::Status status = channels[i]->StartHost(options); !status.ok()) return status;
  }
  failed += CallOne(*channels[0], asleep, point);
  for (size_t i = 0; i < count; ++i) {
    if (absl::Status status = channels[i]->EndHost(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status MeasureCallers(const BenchRun& run, int rounds, ScalingResult& result) {
  absl::StatusOr<std::unique_ptr<BenchChannel>> channel = BenchChannel::Create(kDefaultSpinNs);
  if (!channel.ok()) return channel.status();
  absl::Status status = (*channel)->StartHost({.workers = kDefaultWorkers});
  if (!status.ok()) return status;
  for (const int count : kCallers) result.callers.push_back({.count = count});
  std::vector<size_t> order(kCallers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::minstd_rand random(1);
  for (int round = 0; round < rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t i : order) {
      if (run.interrupted()) return Interrupted();
      result.calls_failed += CallTogether(**channel, result.callers[i]);
    }
  }
  return (*channel)->EndHost();
}

absl::Status MeasureHosts(const BenchRun& run, int rounds, ScalingResult& result) {
  std::vector<std::unique_ptr<BenchChannel>> channels;
  for (int i = 0; i < kHosts.back(); ++i) {
    absl::StatusOr<std::unique_ptr<BenchChannel>> channel = BenchChannel::Create(kLongSpinNs);
    if (!channel.ok()) return channel.status();
    channels.push_back(*std::move(channel));
  }
  for (const int count : kHosts) {
    result.hosts_awake.push_back({.count = count});
    result.hosts_asleep.push_back({.count = count});
  }
  std::vector<size_t> order(2 * kHosts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::minstd_rand random(1);
  PinTo(0);
  absl::Status status;
  for (int round = 0; round < rounds && status.ok(); ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t i : order) {
      const bool asleep = i % 2 != 0;
      auto& points = asleep ? result.hosts_asleep : result.hosts_awake;
      status = run.interrupted() ? Interrupted()
                                 : HostsUnit(channels, asleep, points[i / 2], result.calls_failed);
      if (!status.ok()) break;
    }
  }
  PinToNone();
  return status;
}

double MedianRatio(const std::vector<double>& values, const std::vector<double>& to) {
  std::vector<double> ratios;
  for (size_t round = 0; round < values.size(); ++round) {
    ratios.push_back(values[round] / to[round]);
  }
  return ComputePercentiles(std::move(ratios)).p50;
}

double Median(const std::vector<double>& values) { return ComputePercentiles(values).p50; }

void AddHosts(const std::vector<ScalingPoint>& points, const char* state, bool limited,
              Report& report) {
  const ScalingPoint& four = points[2];
  for (const ScalingPoint& point : points) {
    const std::string name = absl::StrCat("hosts_", point.count, "_called_", state);
    report.AddInfo(absl::StrCat(name, "_p50"), Median(point.p50_ns), "ns");
    if (point.count <= four.count) continue;
    const double ratio = MedianRatio(point.p50_ns, four.p50_ns);
    const std::string ratio_name = absl::StrCat(name, "_p50_ratio_to_4_hosts");
    if (point.count == kHosts.back()) {
      AddAtMost(report, ratio_name, ratio, "", kHostsLimit, limited);
    } else {
      report.AddInfo(ratio_name, ratio, "");
    }
  }
}

}  // namespace

absl::StatusOr<ScalingResult> MeasureScaling(const BenchRun& run, int rounds) {
  ScalingResult result;
  if (absl::Status status = MeasureCallers(run, rounds, result); !status.ok()) return status;
  if (absl::Status status = MeasureHosts(run, rounds, result); !status.ok()) return status;
  return result;
}

void AddScaling(const ScalingResult& scaling, bool limited, Report& report) {
  const ScalingPoint& one = scaling.callers[0];
  for (const ScalingPoint& point : scaling.callers) {
    const std::string name = absl::StrCat("callers_", point.count);
    report.AddInfo(absl::StrCat(name, "_calls"), Median(point.calls_per_s), "/s");
    report.AddInfo(absl::StrCat(name, "_p50"), Median(point.p50_ns), "ns");
    report.AddInfo(absl::StrCat(name, "_p99"), Median(point.p99_ns), "ns");
    if (point.count == 1) continue;
    for (const auto& [what, values, to] :
         {std::tuple{"calls_per_s", &point.calls_per_s, &one.calls_per_s},
          std::tuple{"p50", &point.p50_ns, &one.p50_ns},
          std::tuple{"p99", &point.p99_ns, &one.p99_ns}}) {
      report.AddInfo(absl::StrCat(name, "_", what, "_ratio_to_1_caller"), MedianRatio(*values, *to),
                     "");
    }
  }
  AddHosts(scaling.hosts_awake, "awake", limited, report);
  AddHosts(scaling.hosts_asleep, "asleep", limited, report);
  report.AddFigure("scaling_units_with_failed_calls", static_cast<double>(scaling.calls_failed), "",
                   0, Report::Relation::kAtMost);
}

}  // namespace bulkhead
