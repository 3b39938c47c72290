// SPDX-License-Identifier: Apache-2.0
//
// bench-ipc: what a call costs beside the cheapest thing that does the same work, in the same
// rounds. A unit of measurement is some thousand round trips; around each stands a probe of the raw
// line, and a round whose probes disagree is dropped, because the CPUs moved. Ratios are formed
// round by round; the median counts.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "bench/peer.h"
#include "host/report/percentiles.h"
#include "host/report/report.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr double kNearNs = 200;  // a raw round trip below it: the CPUs are neighbours
constexpr double kProbesAgree = 1.25;
constexpr uint64_t kGapNs = 30'000;
constexpr int kExitSkipped = 77;

class Bench {
 public:
  explicit Bench(Peer& peer) : peer_(peer) {}

  // Mean nanoseconds of a round trip in this mode.
  double Measure(Mode mode, int peer_cpu, int trips) {
    peer_.Enter(mode, peer_cpu);
    Trips(mode, trips / 8 + 1);  // until everything is where it will be
    if (mode == Mode::kFutexOne || mode == Mode::kCallHostAsleep) return MeasureApart(mode, trips);
    const uint64_t started_ns = MonotonicNowNs();
    Trips(mode, trips);
    return static_cast<double>(MonotonicNowNs() - started_ns) / trips;
  }
  bool failed() const { return failed_; }

 private:
  // With a gap before each trip in which the peer falls asleep: it has nothing to wait for awake.
  double MeasureApart(Mode mode, int trips) {
    uint64_t total_ns = 0;
    for (int i = 0; i < trips; ++i) {
      const uint64_t asleep_ns = MonotonicNowNs() + kGapNs;
      while (MonotonicNowNs() < asleep_ns) bh_cpu_relax();
      const uint64_t started_ns = MonotonicNowNs();
      Trips(mode, 1);
      total_ns += MonotonicNowNs() - started_ns;
    }
    return static_cast<double>(total_ns) / trips;
  }

  void Trips(Mode mode, int trips) {
    Page& page = peer_.page();
    uint8_t payload[48] = {};
    for (int i = 0; i < trips; ++i) {
      switch (mode) {
        case Mode::kRaw: {
          const uint64_t sequence = page.call.sequence + 1;
          std::memcpy(page.call.payload, payload, sizeof(payload));
          bh_store_release(&page.call.sequence, sequence);
          while (bh_load_acquire(&page.reply.sequence) != sequence) bh_cpu_relax();
          std::memcpy(payload, page.reply.payload, sizeof(payload));
          break;
        }
        case Mode::kFutexOne: {
          const uint32_t value = page.futex_call + 1;
          FutexPost(&page.futex_call, value);
          while (bh_load_acquire(&page.futex_reply) != value) bh_cpu_relax();
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
          failed_ = !peer_.Call(mode, payload) || failed_;
          break;
        case Mode::kIdle:
        case Mode::kEnd:
          break;
      }
    }
  }
  Peer& peer_;
  bool failed_ = false;
};

struct Pair {
  const char* name;
  Mode ours;
  Mode floor;
  int peer_cpu;  // 0 is the caller's
  int trips;
  double limit;
};

constexpr Pair kPairs[] = {
    {"spinning", Mode::kCall, Mode::kRaw, 1, 2000, 1.5},
    {"host_asleep", Mode::kCallHostAsleep, Mode::kFutexOne, 1, 200, 1.25},
    {"both_asleep", Mode::kCallBothAsleep, Mode::kFutexBoth, 1, 200, 1.25},
    {"same_core", Mode::kCallBothAsleep, Mode::kFutexBoth, 0, 200, 1.25},
};

struct Series {
  std::vector<double> ratio, ours_ns, floor_ns;
};

int Run(int rounds, const std::string& json) {
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
    std::printf("SKIP: two processes on two CPUs are measured, and this machine has one\n");
    return kExitSkipped;
  }
  absl::StatusOr<std::unique_ptr<Peer>> peer = Peer::Start();
  if (!peer.ok()) {
    std::cerr << "bench-ipc: " << peer.status().message() << "\n";
    return 2;
  }
  PinTo(0);
  Bench bench(**peer);
  std::map<std::string, Series> measured;  // by name and distance
  size_t dropped = 0;
  for (int round = 0; round < rounds; ++round) {
    for (const Pair& pair : kPairs) {
      const double before_ns = bench.Measure(Mode::kRaw, 1, 500);
      const double floor_ns = bench.Measure(pair.floor, pair.peer_cpu, pair.trips);
      const double ours_ns = bench.Measure(pair.ours, pair.peer_cpu, pair.trips);
      const double after_ns = bench.Measure(Mode::kRaw, 1, 500);
      if (std::max(before_ns, after_ns) > kProbesAgree * std::min(before_ns, after_ns)) {
        ++dropped;
        continue;
      }
      Series& series = measured[absl::StrCat(pair.name, before_ns < kNearNs ? "_near" : "_far")];
      series.ratio.push_back(ours_ns / floor_ns);
      series.ours_ns.push_back(ours_ns);
      series.floor_ns.push_back(floor_ns);
    }
  }
  Report report("bench ipc");
  for (const Pair& pair : kPairs) {
    for (const char* distance : {"_near", "_far"}) {
      const std::string name = absl::StrCat(pair.name, distance);
      const auto found = measured.find(name);
      if (found == measured.end()) continue;  // the CPUs never stood like that
      const Percentiles ratio = ComputePercentiles(found->second.ratio);
      report.AddFigure(absl::StrCat(name, "_ratio_p50"), ratio.p50, "", pair.limit,
                       Report::Relation::kAtMost);
      report.AddInfo(absl::StrCat(name, "_ours_p50"), ComputePercentiles(found->second.ours_ns).p50,
                     "ns");
      report.AddInfo(absl::StrCat(name, "_floor_p50"),
                     ComputePercentiles(found->second.floor_ns).p50, "ns");
      report.AddInfo(absl::StrCat(name, "_rounds"), static_cast<double>(ratio.count), "");
    }
  }
  report.AddFigure("calls_failed", bench.failed() ? 1 : 0, "", 0, Report::Relation::kAtMost);
  report.AddInfo("units_dropped", static_cast<double>(dropped), "");
  report.PrintTable(std::cout);
  if (!json.empty()) {
    if (absl::Status status = report.WriteJson(json); !status.ok()) {
      std::cerr << "bench-ipc: " << status.message() << "\n";
      return 2;
    }
  }
  return report.ExitCode();
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  CLI::App app("What a call costs, beside the raw line and the futex that do the same work");
  int rounds = 300;
  bool short_form = false;
  std::string json;
  app.add_option("--rounds", rounds, "Rounds; each measures everything once")
      ->check(CLI::Range(1, 100'000));
  app.add_flag("--short", short_form, "The form for the test suite: 40 rounds");
  app.add_option("--json", json, "Write the report to this file")->type_name("FILE");
  CLI11_PARSE(app, argc, argv);
  return bulkhead::Run(short_form ? 40 : rounds, json);
}
