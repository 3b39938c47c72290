// SPDX-License-Identifier: Apache-2.0
#include "host/report/percentiles.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace bulkhead {
namespace {

TEST(PercentilesTest, NoSamplesCountZero) {
  const Percentiles p = ComputePercentiles({});
  EXPECT_EQ(p.count, 0u);
  EXPECT_EQ(p.p999, 0);
}

TEST(PercentilesTest, OneSampleIsEveryPercentile) {
  const Percentiles p = ComputePercentiles({7});
  EXPECT_EQ(p.count, 1u);
  EXPECT_EQ(p.p50, 7);
  EXPECT_EQ(p.p99, 7);
  EXPECT_EQ(p.p999, 7);
  EXPECT_EQ(p.max, 7);
}

TEST(PercentilesTest, NearestRankOfUnsortedSamples) {
  std::vector<double> samples(1000);
  std::iota(samples.rbegin(), samples.rend(), 1);
  const Percentiles p = ComputePercentiles(samples);
  EXPECT_EQ(p.p50, 500);
  EXPECT_EQ(p.p99, 990);
  EXPECT_EQ(p.p999, 999);
  EXPECT_EQ(p.max, 1000);
}

// With few samples a high percentile must be the worst one, not the one before it.
TEST(PercentilesTest, FewSamplesRoundTowardsTheWorst) {
  const Percentiles p = ComputePercentiles({1, 2, 3});
  EXPECT_EQ(p.p50, 2);
  EXPECT_EQ(p.p99, 3);
}

}  // namespace
}  // namespace bulkhead
