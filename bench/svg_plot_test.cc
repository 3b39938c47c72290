// SPDX-License-Identifier: Apache-2.0
#include "bench/svg_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(SvgPlotTest, TicksBoundTheValues) {
  const std::vector<SvgPlot::Tick> ticks = DecadeTicksNs(110, 2'500'000);
  ASSERT_EQ(ticks.size(), 6u);
  EXPECT_EQ(ticks.front().label, "100 ns");
  EXPECT_EQ(ticks[1].label, "1 µs");
  EXPECT_EQ(ticks.back().label, "10 ms");
  EXPECT_EQ(DecadeTicksNs(100, 100).size(), 2u) << "an axis needs two ends";
}

TEST(SvgPlotTest, DrawsPointsWhereTheTicksSay) {
  SvgPlot plot{.title = "a < b", .x_label = "time", .y_label = "share"};
  plot.x_ticks = {{1, "1"}, {10, "10"}, {100, "100"}};
  plot.y_ticks = {{0, "0"}, {100, "100"}};
  plot.series = {{.name = "\"one\"", .points = {{1, 0}, {10, 50}, {100, 100}, {1000, 100}}}};
  const std::string svg = plot.ToSvg();
  EXPECT_THAT(svg, HasSubstr("points=\"80.0,365.0 385.0,210.5 690.0,56.0 690.0,56.0 \""))
      << "and what lies outside stands at the edge";
  EXPECT_THAT(svg, HasSubstr("a &lt; b"));
  EXPECT_THAT(svg, HasSubstr("&quot;one&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("a < b")));
}

}  // namespace
}  // namespace bulkhead
