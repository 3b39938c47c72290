// SPDX-License-Identifier: Apache-2.0
//
// Comparison: all transports in the same rounds. A unit is some hundred calls of one transport; a
// probe of the raw floor stands before and behind it, and a unit whose probes disagree is dropped,
// because the hypervisor moved the CPUs. Units with near and with far CPUs are kept apart.
//
// A transport's distance from our call is formed round by round, from medians of units that ran
// milliseconds apart under the same kind of CPUs; the median of the rounds counts.
#ifndef BULKHEAD_BENCH_PEERS_COMPARISON_H_
#define BULKHEAD_BENCH_PEERS_COMPARISON_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/peers/transport.h"

namespace bulkhead {

inline constexpr double kNearNs = 200;  // a raw round trip below it: the CPUs are neighbours
inline constexpr double kProbesAgree = 1.25;
inline constexpr std::array<const char*, 2> kDistances = {"near", "far"};

struct TransportResult {
  TransportKind kind;
  std::string skipped;  // why nothing was measured
  std::string broken;   // what went wrong; a failure of the benchmark
  uint64_t calls = 0;
  uint64_t wrong = 0;
  struct AtDistance {
    std::vector<double> samples_ns;
    std::vector<double> times_ours;  // its median by that of our call, one for a round
    size_t units = 0;
  };
  std::array<AtDistance, 2> at;  // by kDistances
};

struct ComparisonResult {
  std::vector<TransportResult> transports;  // as the kinds
  int rounds = 0;
  size_t units_dropped = 0;
};

// REQUIRES: two CPUs; kinds[0] is the raw floor, kinds[1] is our call; no child of the process.
// Fails only when the raw floor can't be had.
absl::StatusOr<ComparisonResult> Compare(std::vector<TransportKind> kinds, int rounds);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_COMPARISON_H_
