// SPDX-License-Identifier: Apache-2.0
#include "host/report/percentiles.h"

#include <algorithm>

namespace bulkhead {
namespace {

// The smallest sample with at least `per_mille` of all samples at or below it. Integers, because
// 0.999 * 1000 in floating point rounds up to rank 1000 on some inputs.
double NearestRank(const std::vector<double>& sorted, size_t per_mille) {
  const size_t rank = (sorted.size() * per_mille + 999) / 1000;
  return sorted[rank == 0 ? 0 : rank - 1];
}

}  // namespace

Percentiles ComputePercentiles(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  return {.count = samples.size(),
          .p50 = NearestRank(samples, 500),
          .p99 = NearestRank(samples, 990),
          .p999 = NearestRank(samples, 999),
          .max = samples.back()};
}

}  // namespace bulkhead
