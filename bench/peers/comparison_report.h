// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_PEERS_COMPARISON_REPORT_H_
#define BULKHEAD_BENCH_PEERS_COMPARISON_REPORT_H_

#include <ostream>

#include "bench/peers/comparison.h"
#include "host/report/report.h"

namespace bulkhead {

// Bulkhead's call must be this many times faster than each peer.
inline constexpr double kTimesFaster = 5;

// A figure for each peer and distance, limited or not, and the percentiles as the detail "peers".
void AddComparison(const ComparisonResult& comparison, bool limited, Report& report);

void PrintComparison(const ComparisonResult& comparison, std::ostream& out);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_COMPARISON_REPORT_H_
