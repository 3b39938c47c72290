// SPDX-License-Identifier: Apache-2.0
#include "bench/ipc_hog.h"

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench_host.h"
#include "bench/judge.h"
#include "bench/peer.h"
#include "bench/peers/shared_object.h"
#include "host/report/percentiles.h"
#include "ipc/abi/atomics.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kUnitNs = 100'000'000;
constexpr uint64_t kPauseNs = 10'000;  // less than the default spin
// As 1, but for the noise: both tails are slices that the scheduler gives to the other process, and
// the channel that is measured twice differs from itself by up to 0.13.
constexpr double kTailLimit = 1.3;

struct Kind {
  const char* name;
  uint32_t spin_ns;
};
constexpr std::array<Kind, 3> kKinds = {
    {{"default_budget", kDefaultSpinNs}, {"no_spin", 0}, {"no_spin_again", 0}}};
constexpr std::array<const char*, 2> kPaces = {"at_once", "with_pauses"};

struct Unit {
  size_t kind, pace;
  std::vector<double> samples_ns = {};
  uint64_t sleeps = 0;  // of the host's worker, to some calls
};

bool Measure(BenchChannel& channel, const uint64_t& sleeps, Unit& unit) {
  const uint64_t sleeps_before = bh_load_relaxed(&sleeps);
  bool answered = true;
  const uint64_t until_ns = MonotonicAfterNs(kUnitNs);
  for (uint64_t now_ns = 0; now_ns < until_ns;) {
    if (unit.pace == 1) {
      const uint64_t pause_over_ns = MonotonicAfterNs(kPauseNs);
      while (MonotonicNowNs() < pause_over_ns) bh_cpu_relax();
    }
    const uint64_t started_ns = MonotonicNowNs();
    answered = channel.Call() && answered;
    now_ns = MonotonicNowNs();
    unit.samples_ns.push_back(static_cast<double>(now_ns - started_ns));
  }
  unit.sleeps += bh_load_relaxed(&sleeps) - sleeps_before;
  return answered;
}

}  // namespace

absl::Status MeasureHog(const BenchRun& run, int rounds, Report& report) {
  std::array<std::unique_ptr<BenchChannel>, kKinds.size()> channels;
  std::array<SharedObject<uint64_t>, kKinds.size()> sleeps;
  for (size_t i = 0; i < kKinds.size(); ++i) {
    absl::StatusOr<std::unique_ptr<BenchChannel>> channel = BenchChannel::Create(kKinds[i].spin_ns);
    if (!channel.ok()) return channel.status();
    channels[i] = *std::move(channel);
    if (absl::Status status = sleeps[i].Map(); !status.ok()) return status;
    absl::Status status =
        channels[i]->StartHost({.cpu = 1, .spin_ns = kKinds[i].spin_ns, .sleeps = &*sleeps[i]});
    if (!status.ok()) return status;
  }
  const absl::StatusOr<ForkedProcess> hog = ForkedProcess::Start([] {
    PinTo(1);
    for (;;) bh_cpu_relax();
  });
  if (!hog.ok()) return hog.status();

  std::vector<Unit> units;
  for (size_t kind = 0; kind < kKinds.size(); ++kind) {
    for (size_t pace = 0; pace < kPaces.size(); ++pace)
      units.push_back({.kind = kind, .pace = pace});
  }
  std::vector<size_t> order(units.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::minstd_rand random(1);
  PinTo(0);
  bool answered = true;
  for (int round = 0; round < rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t i : order) {
      if (run.interrupted()) return Interrupted();
      const size_t kind = units[i].kind;
      answered = Measure(*channels[kind], *sleeps[kind], units[i]) && answered;
    }
  }
  PinToNone();

  std::array<double, kPaces.size()> no_spin_ns = {};
  for (const Unit& unit : units) {
    if (unit.kind == 1) no_spin_ns[unit.pace] = ComputePercentiles(unit.samples_ns).p999;
  }
  for (const Unit& unit : units) {
    const Percentiles ns = ComputePercentiles(unit.samples_ns);
    const std::string name =
        absl::StrCat("hog_calls_", kPaces[unit.pace], "_", kKinds[unit.kind].name);
    report.AddInfo(absl::StrCat(name, "_p50"), ns.p50, "ns");
    report.AddInfo(absl::StrCat(name, "_p999"), ns.p999, "ns");
    report.AddInfo(absl::StrCat(name, "_host_sleeps_per_call"),
                   static_cast<double>(unit.sleeps) / static_cast<double>(ns.count), "");
    if (unit.kind == 1) continue;
    const double ratio = ns.p999 / no_spin_ns[unit.pace];
    const std::string ratio_name = absl::StrCat(name, "_p999_ratio_to_no_spin");
    if (unit.kind == 0) {
      AddAtMost(report, ratio_name, ratio, "", kTailLimit, run.limited);
    } else {
      report.AddInfo(ratio_name, ratio, "");
    }
  }
  report.AddFigure("hog_calls_failed", answered ? 0 : 1, "", 0, Report::Relation::kAtMost);
  return absl::OkStatus();
}

}  // namespace bulkhead
