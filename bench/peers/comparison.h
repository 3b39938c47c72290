// SPDX-License-Identifier: Apache-2.0
//
// Comparison: all transports in the same rounds. A unit is some hundred calls of one transport,
// with a probe of the raw floor before and after it. A unit is dropped if its probes disagree,
// because the hypervisor moved the CPUs. Units with near and with far CPUs are kept apart.
//
// The ratio of a transport to Bulkhead's call is computed for each round, from medians of units
// that ran milliseconds apart on CPUs at the same distance; the result is the median of the rounds.
#ifndef BULKHEAD_BENCH_PEERS_COMPARISON_H_
#define BULKHEAD_BENCH_PEERS_COMPARISON_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/bench_run.h"
#include "bench/peers/transport.h"

namespace bulkhead {

inline constexpr double kNearNs = 200;  // a raw round trip below this: the CPUs are neighbours
inline constexpr double kProbesAgree = 1.25;
inline constexpr std::array<const char*, 2> kDistances = {"near", "far"};

struct TransportResult {
  TransportKind kind;
  std::string skipped;  // the reason why it was not measured
  std::string broken;   // the error; a failure of the benchmark
  uint64_t calls = 0;
  uint64_t wrong = 0;
  struct AtDistance {
    std::vector<double> samples_ns;
    std::vector<double> times_ours;  // its median divided by that of Bulkhead's call, one for each
                                     // round
    size_t units = 0;
  };
  std::array<AtDistance, 2> at;  // indexed as kDistances
};

struct ComparisonResult {
  std::vector<TransportResult> transports;  // indexed as the kinds
  int rounds = 0;
  size_t units_dropped = 0;
};

// REQUIRES: two CPUs; kinds[0] is the raw floor, kinds[1] is Bulkhead's call; no child of the
// process. Fails only when the raw floor can't be measured.
absl::StatusOr<ComparisonResult> Compare(const BenchRun& run, std::vector<TransportKind> kinds,
                                         int rounds);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_COMPARISON_H_
