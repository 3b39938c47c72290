// SPDX-License-Identifier: Apache-2.0
//
// The rows of ipc/abi/statistics.def as a table, for what shows or sends every counter without
// naming one: control messages, status, JSON.
#ifndef BULKHEAD_IPC_STATISTICS_H_
#define BULKHEAD_IPC_STATISTICS_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "ipc/abi/names.h"
#include "ipc/abi/statistics.h"

namespace bulkhead {

// The line of the status where a counter is shown.
enum class StatisticGroup { CALLS, NOTIFICATIONS, STATE };

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

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_STATISTICS_H_
