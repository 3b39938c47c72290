// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_JUDGE_H_
#define BULKHEAD_BENCH_JUDGE_H_

#include <string_view>

#include "host/report/report.h"

namespace bulkhead {

// A figure with a limit from above, or without one where nothing is judged.
inline void AddAtMost(Report& report, std::string_view name, double value, std::string_view unit,
                      double limit, bool limited) {
  if (limited) {
    report.AddFigure(name, value, unit, limit, Report::Relation::kAtMost);
  } else {
    report.AddInfo(name, value, unit);
  }
}

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_JUDGE_H_
