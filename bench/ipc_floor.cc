// SPDX-License-Identifier: Apache-2.0
#include "bench/ipc_floor.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bounded_wait.h"
#include "bench/peer.h"
#include "bench/peers/comparison.h"
#include "host/report/percentiles.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr int kProbeTrips = 500;
// A raw round trip below it: the CPUs are one core's, whatever the hypervisor says, and each slows
// the other's instructions down. A pair that spins there is told apart, and not judged.
constexpr double kOneCoreNs = 65;
constexpr const char* kOneCore = "one_core";

struct Case {
  const char* name;
  Mode ours;
  Mode floor;
  int peer_cpu;  // 0 is the caller's
  int trips;
  uint64_t gap_ns;   // before each trip, in which the peer falls asleep; 0: no gap
  uint64_t work_ns;  // before the peer's answer, in which the caller falls asleep; not counted
  double near_limit;
  double far_limit;
};

constexpr Case kCases[] = {
    {"spinning", Mode::kCall, Mode::kRaw, 1, 2000, 0, 0, 1.25, 1.15},
    {"host_asleep", Mode::kCallHostAsleep, Mode::kFutexOne, 1, 200, 30'000, 0, 1.1, 1.1},
    {"both_asleep", Mode::kCallBothAsleep, Mode::kFutexBoth, 1, 200, 30'000, 30'000, 1.1, 1.1},
    // Handed over on the caller's CPU, where it pays: beside a futex that rouses the other CPU.
    {"cold", Mode::kCallCold, Mode::kFutexBoth, 1, 400, 30'000, 0, 1.0 / 3, 1.0 / 3},
    // On one CPU each runs while the other sleeps: nothing has to be arranged.
    {"same_core", Mode::kCallBothAsleep, Mode::kFutexBoth, 0, 500, 0, 0, 1.1, 1.1},
};

const char* DistanceOf(const Case& unit, double raw_ns) {
  if (unit.floor == Mode::kRaw && raw_ns < kOneCoreNs) return kOneCore;
  return kDistances[raw_ns < kNearNs ? 0 : 1];
}

class Bench {
 public:
  explicit Bench(Peer& peer) : peer_(peer) {}

  // Mean nanoseconds of a round trip.
  double Probe() { return Together(Mode::kRaw, 1, kProbeTrips); }
  double Measure(const Case& unit, Mode mode) {
    return unit.gap_ns == 0 ? Together(mode, unit.peer_cpu, unit.trips) : Apart(unit, mode);
  }

 private:
  void Enter(Mode mode, int peer_cpu, uint64_t work_ns, int trips) {
    peer_.Enter(mode, peer_cpu, work_ns);
    Trips(mode, trips / 8 + 1);  // until everything is where it will be
  }
  double Together(Mode mode, int peer_cpu, int trips) {
    Enter(mode, peer_cpu, 0, trips);
    const uint64_t started_ns = MonotonicNowNs();
    Trips(mode, trips);
    return static_cast<double>(MonotonicNowNs() - started_ns) / trips;
  }
  double Apart(const Case& unit, Mode mode) {
    Enter(mode, unit.peer_cpu, unit.work_ns, unit.trips);
    uint64_t total_ns = 0;
    for (int i = 0; i < unit.trips; ++i) {
      const uint64_t asleep_ns = MonotonicAfterNs(unit.gap_ns);
      while (MonotonicNowNs() < asleep_ns) bh_cpu_relax();
      const uint64_t started_ns = MonotonicNowNs();
      Trips(mode, 1);
      total_ns += MonotonicNowNs() - started_ns - unit.work_ns;
    }
    return static_cast<double>(total_ns) / unit.trips;
  }

  void Trips(Mode mode, int trips) {
    Page& page = peer_.page();
    uint8_t payload[48] = {};
    for (int i = 0; i < trips; ++i) {
      switch (mode) {
        case Mode::kRaw:
          peer_.Raw(payload);
          break;
        case Mode::kFutexOne: {
          const uint32_t value = page.futex_call + 1;
          FutexPost(&page.futex_call, value);
          SpinUntil("the futex peer's answer",
                    [&] { return bh_load_acquire(&page.futex_reply) == value; });
          break;
        }
        case Mode::kFutexBoth: {
          const uint32_t before = bh_load_relaxed(&page.futex_reply);
          FutexPost(&page.futex_call, page.futex_call + 1);
          FutexWaitFor(&page.futex_reply, before);
          break;
        }
        case Mode::kCall:
        case Mode::kCallHostAsleep:
        case Mode::kCallBothAsleep:
        case Mode::kCallCold:
          if (!peer_.Call(mode, payload)) WaitFailed("the host's answer to a call");
          break;
        case Mode::kIdle:
          break;
      }
    }
  }
  Peer& peer_;
};

struct Series {
  std::vector<double> ratio, ours_ns, floor_ns;
};

struct Measured {
  std::map<std::string, Series> series;  // by name and distance
  size_t dropped = 0;
};

void RunUnit(benchmark::State& state, const BenchRun& run, const Case& unit, Bench& bench,
             Measured& measured) {
  for (auto iteration : state) {
    (void)iteration;
    if (run.interrupted()) {
      state.SetIterationTime(0);
      continue;
    }
    const double before_ns = bench.Probe();
    const double floor_ns = bench.Measure(unit, unit.floor);
    const double ours_ns = bench.Measure(unit, unit.ours);
    const double after_ns = bench.Probe();
    state.SetIterationTime(ours_ns / 1e9);
    state.counters["floor_ns"] = floor_ns;
    state.counters["ratio"] = ours_ns / floor_ns;
    if (std::max(before_ns, after_ns) > kProbesAgree * std::min(before_ns, after_ns)) {
      ++measured.dropped;
      continue;
    }
    Series& series = measured.series[absl::StrCat(unit.name, "_", DistanceOf(unit, before_ns))];
    series.ratio.push_back(ours_ns / floor_ns);
    series.ours_ns.push_back(ours_ns);
    series.floor_ns.push_back(floor_ns);
  }
}

// The report is ours; Google Benchmark's own goes to --benchmark_out.
class NoConsole : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

void AddTo(Report& report, const Measured& measured, bool limited) {
  for (const Case& unit : kCases) {
    for (const char* distance : {kOneCore, kDistances[0], kDistances[1]}) {
      const std::string name = absl::StrCat(unit.name, "_", distance);
      const auto found = measured.series.find(name);
      if (found == measured.series.end()) continue;  // the CPUs never stood like that
      const Percentiles ratio = ComputePercentiles(found->second.ratio);
      if (limited && distance != kOneCore) {
        const double limit = distance == kDistances[0] ? unit.near_limit : unit.far_limit;
        report.AddFigure(absl::StrCat(name, "_ratio_p50"), ratio.p50, "", limit,
                         Report::Relation::kAtMost);
      } else {
        report.AddInfo(absl::StrCat(name, "_ratio_p50"), ratio.p50, "");
      }
      report.AddInfo(absl::StrCat(name, "_ours_p50"), ComputePercentiles(found->second.ours_ns).p50,
                     "ns");
      report.AddInfo(absl::StrCat(name, "_floor_p50"),
                     ComputePercentiles(found->second.floor_ns).p50, "ns");
      report.AddInfo(absl::StrCat(name, "_units"), static_cast<double>(ratio.count), "");
    }
  }
  report.AddInfo("units_dropped", static_cast<double>(measured.dropped), "");
}

}  // namespace

absl::Status MeasureFloors(const BenchRun& run, int units, Report& report) {
  absl::StatusOr<std::unique_ptr<Peer>> peer = Peer::Start();
  if (!peer.ok()) return peer.status();
  PinTo(0);
  Bench bench(**peer);
  Measured measured;
  for (const Case& unit : kCases) {
    benchmark::RegisterBenchmark(unit.name,
                                 [&run, &unit, &bench, &measured](benchmark::State& state) {
                                   RunUnit(state, run, unit, bench, measured);
                                 })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(units);
  }
  NoConsole console;
  benchmark::RunSpecifiedBenchmarks(&console);
  benchmark::ClearRegisteredBenchmarks();  // they refer to what ends here
  PinToNone();
  if (run.interrupted()) return Interrupted();
  AddTo(report, measured, run.limited);
  return absl::OkStatus();
}

}  // namespace bulkhead
