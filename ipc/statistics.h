// SPDX-License-Identifier: Apache-2.0
//
// The rows of ipc/abi/statistics.def as a table, for what shows or sends every counter without
// naming one: control messages, status, JSON.
#ifndef BULKHEAD_IPC_STATISTICS_H_
#define BULKHEAD_IPC_STATISTICS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "ipc/abi/names.h"
#include "ipc/abi/statistics.h"

namespace bulkhead {

// The line of the status where a counter is shown.
enum class StatisticGroup { CALLS, LATENCY, NOTIFICATIONS, STATE };

// Of calls: how they began and ended. NOW goes up and down, a COUNT only grows.
enum class StatisticKind { STARTED, ENDED, NOW, COUNT };

struct StatisticRow {
  const char* name;
  size_t first;  // of its words
  size_t count;
  const char* (*part_name)(uint32_t part);  // nullptr: it is a single number
  StatisticGroup group;
  StatisticKind kind;
  const char* doc;
};

inline constexpr StatisticRow kStatistics[] = {
#define BH_STATISTIC(NAME, name, group, kind, doc) \
  {#name, BH_COUNT_##NAME, 1, nullptr, StatisticGroup::group, StatisticKind::kind, doc},
#define BH_STATISTIC_BY(NAME, name, count, part, group, kind, doc)                              \
  {#name, BH_COUNT_##NAME, count, bh_##part##_name, StatisticGroup::group, StatisticKind::kind, \
   doc},
#include "ipc/abi/statistics.def"
};

// Its words, in the order of the rows.
inline absl::Span<const uint64_t> WordsOf(const bh_statistics& statistics) {
  return {reinterpret_cast<const uint64_t*>(&statistics), BH_STATISTICS_WORDS};
}
inline absl::Span<uint64_t> WordsOf(bh_statistics& statistics) {
  return {reinterpret_cast<uint64_t*>(&statistics), BH_STATISTICS_WORDS};
}

// The part of a histogram (ipc/abi/latency.h) that has this share of what is counted in it and
// before it: of 0.5 the median's. BH_LATENCY_COUNT where nothing is counted.
inline uint32_t LatencyQuantile(absl::Span<const uint64_t> parts, double share) {
  double sum = 0, below = 0;
  for (const uint64_t count : parts) sum += static_cast<double>(count);
  if (sum == 0) return BH_LATENCY_COUNT;
  uint32_t part = 0;
  while (part + 1 < parts.size() && (below += static_cast<double>(parts[part])) < share * sum) {
    ++part;
  }
  return part;
}

// "<16us", ">=17s", "-" where nothing is counted.
inline std::string LatencyText(uint32_t part) {
  if (part >= BH_LATENCY_COUNT) return "-";
  if (part + 1 == BH_LATENCY_COUNT) return std::string(">=") + bh_latency_name(part - 1);
  return std::string("<") + bh_latency_name(part);
}

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_STATISTICS_H_
