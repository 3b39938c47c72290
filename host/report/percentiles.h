// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_REPORT_PERCENTILES_H_
#define BULKHEAD_HOST_REPORT_PERCENTILES_H_

#include <cstddef>
#include <vector>

namespace bulkhead {

// Nearest-rank percentiles: each is a measured sample, never an interpolation. All zero when there
// are no samples; `count` shows which case it is.
struct Percentiles {
  size_t count = 0;
  double p50 = 0;
  double p99 = 0;
  double p999 = 0;
  double max = 0;
};

// Sorts its own copy; not for a hot path.
Percentiles ComputePercentiles(std::vector<double> samples);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_REPORT_PERCENTILES_H_
