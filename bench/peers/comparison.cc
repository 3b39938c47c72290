// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/comparison.h"

#include <sys/prctl.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <random>

#include "absl/strings/str_cat.h"
#include "bench/forked_process.h"
#include "bench/peers/pair.h"
#include "host/report/percentiles.h"

namespace bulkhead {
namespace {

constexpr uint32_t kProbeTrips = 400;
constexpr uint32_t kUnitTrips = 1000;
constexpr uint64_t kUnitNs = 2'000'000;

double Median(absl::Span<const uint32_t> samples) {
  return ComputePercentiles({samples.begin(), samples.end()}).p50;
}

class Rounds {
 public:
  ComparisonResult result;

  absl::Status Start(std::vector<TransportKind> kinds) {
    for (TransportKind& wanted : kinds) {
      TransportResult& transport = result.transports.emplace_back();
      transport.kind = std::move(wanted);
      const TransportKind& kind = transport.kind;
      pairs_.emplace_back();
      if (!kind.make) {
        transport.skipped = absl::StrCat(kind.packages, " was not there when this was built");
        continue;
      }
      absl::StatusOr<std::unique_ptr<Pair>> pair = Pair::Start(kind);
      if (pair.ok()) {
        pairs_.back() = *std::move(pair);
      } else if (absl::IsUnavailable(pair.status())) {
        transport.skipped = std::string(pair.status().message());
      } else {
        transport.broken = std::string(pair.status().message());
      }
    }
    if (pairs_[kRaw] == nullptr) return absl::InternalError(result.transports[kRaw].broken);
    order_.resize(pairs_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    return Probe();
  }

  // In a new order each time, so that no transport always follows the same one.
  absl::Status Round() {
    struct Unit {
      size_t transport, distance;
      double median_ns;
    };
    std::vector<Unit> kept;
    std::optional<Unit> ours;
    std::shuffle(order_.begin(), order_.end(), random_);
    for (const size_t index : order_) {
      TransportResult& transport = result.transports[index];
      std::unique_ptr<Pair>& pair = pairs_[index];
      if (pair == nullptr) continue;
      const double before_ns = probe_ns_;
      absl::StatusOr<absl::Span<const uint32_t>> samples = pair->Run(kUnitTrips, kUnitNs);
      transport.calls = pair->calls();
      transport.wrong = pair->wrong();
      if (!samples.ok()) {
        transport.broken = std::string(samples.status().message());
        pair.reset();
        if (index == kRaw) return samples.status();
        continue;
      }
      const std::vector<uint32_t> taken(samples->begin(), samples->end());
      if (absl::Status status = Probe(); !status.ok()) return status;
      const auto [low_ns, high_ns] = std::minmax(before_ns, probe_ns_);
      if (high_ns > kProbesAgree * low_ns || (low_ns < kNearNs) != (high_ns < kNearNs)) {
        ++result.units_dropped;
        continue;
      }
      const size_t distance = low_ns < kNearNs ? 0 : 1;
      TransportResult::AtDistance& at = transport.at[distance];
      at.samples_ns.insert(at.samples_ns.end(), taken.begin(), taken.end());
      ++at.units;
      kept.push_back({index, distance, Median(taken)});
      if (index == kOurs) ours = kept.back();
    }
    ++result.rounds;
    if (!ours) return absl::OkStatus();
    for (const Unit& unit : kept) {
      if (unit.distance != ours->distance) continue;
      result.transports[unit.transport].at[unit.distance].times_ours.push_back(unit.median_ns /
                                                                               ours->median_ns);
    }
    return absl::OkStatus();
  }

 private:
  // Their indexes in the list of kinds.
  static constexpr size_t kRaw = 0, kOurs = 1;

  absl::Status Probe() {
    absl::StatusOr<absl::Span<const uint32_t>> samples = pairs_[kRaw]->Run(kProbeTrips, kUnitNs);
    if (!samples.ok()) return samples.status();
    probe_ns_ = Median(*samples);
    return absl::OkStatus();
  }

  std::vector<std::unique_ptr<Pair>> pairs_;  // indexed as the kinds; null: not measured
  std::vector<size_t> order_;
  std::minstd_rand random_{1};
  double probe_ns_ = 0;
};

}  // namespace

absl::StatusOr<ComparisonResult> Compare(const BenchRun& run, std::vector<TransportKind> kinds,
                                         int rounds) {
  // Servers and daemons outlive their clients by a moment; they become children of this process,
  // which reaps them.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  absl::StatusOr<ComparisonResult> result;
  {
    Rounds all;
    absl::Status status = all.Start(std::move(kinds));
    for (int i = 0; i < rounds && status.ok(); ++i) {
      status = run.interrupted() ? Interrupted() : all.Round();
    }
    if (status.ok()) {
      result = std::move(all.result);
    } else {
      result = status;
    }
  }
  const absl::Status reaped = ReapChildren("the end of the peers' servers and daemons");
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  if (result.ok() && !reaped.ok()) return reaped;
  return result;
}

}  // namespace bulkhead
