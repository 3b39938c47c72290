// SPDX-License-Identifier: Apache-2.0
#include "ipc/statistics.h"

#include <gtest/gtest.h>

#include <array>

namespace bulkhead {
namespace {

TEST(LatencyQuantile, IsThePartThatReachesTheShare) {
  std::array<uint64_t, BH_LATENCY_COUNT> parts = {};
  EXPECT_EQ(LatencyQuantile(parts, 0.5), BH_LATENCY_COUNT) << "nothing is counted";
  parts[3] = 50;
  parts[7] = 49;
  parts[BH_LATENCY_COUNT - 1] = 1;
  EXPECT_EQ(LatencyQuantile(parts, 0), 0u);
  EXPECT_EQ(LatencyQuantile(parts, 0.5), 3u);
  EXPECT_EQ(LatencyQuantile(parts, 0.51), 7u);
  EXPECT_EQ(LatencyQuantile(parts, 0.99), 7u);
  EXPECT_EQ(LatencyQuantile(parts, 1), BH_LATENCY_COUNT - 1);
}

TEST(LatencyText, NamesTheBoundOfAPart) {
  EXPECT_EQ(LatencyText(4), "<16us");
  EXPECT_EQ(LatencyText(BH_LATENCY_COUNT - 1), ">=17s") << "it has none";
  EXPECT_EQ(LatencyText(BH_LATENCY_COUNT), "-");
}

}  // namespace
}  // namespace bulkhead
