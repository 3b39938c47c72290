// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/ipc_scaling.h"
#include "bench/svg_plot.h"
#include "host/report/percentiles.h"

namespace bulkhead {
namespace {

struct Curve {
  const char* name;
  const std::vector<ScalingPoint>* points;
  std::vector<double> ScalingPoint::*values;
  bool ours;  // drawn stronger
};

std::string TimesPlot(const char* title, const char* x_label, const std::vector<Curve>& curves) {
  SvgPlot plot{
      .title = title, .x_label = x_label, .y_label = "time of a call", .y_logarithmic = true};
  double low = 1e9, high = 1;
  for (const Curve& curve : curves) {
    SvgPlot::Series series{.name = curve.name, .ours = curve.ours};
    for (const ScalingPoint& point : *curve.points) {
      const double ns = ComputePercentiles(point.*curve.values).p50;
      series.points.emplace_back(point.count, ns);
      low = std::min(low, ns);
      high = std::max(high, ns);
    }
    plot.series.push_back(std::move(series));
  }
  for (const ScalingPoint& point : *curves.front().points) {
    plot.x_ticks.push_back({static_cast<double>(point.count), absl::StrCat(point.count)});
  }
  plot.y_ticks = DecadeTicksNs(low, high);
  return plot.ToSvg();
}

std::string RatePlot(const std::vector<ScalingPoint>& callers) {
  SvgPlot plot{.title = "Callers of one host: all their calls",
               .x_label = "callers",
               .y_label = "million calls/s"};
  SvgPlot::Series series{.name = "all callers", .ours = true};
  double high = 0;
  for (const ScalingPoint& point : callers) {
    const double rate = ComputePercentiles(point.calls_per_s).p50;
    series.points.emplace_back(point.count, rate);
    high = std::max(high, rate);
    plot.x_ticks.push_back({static_cast<double>(point.count), absl::StrCat(point.count)});
  }
  plot.series.push_back(std::move(series));
  constexpr double kStep = 250'000;
  for (int step = 0; (step - 1) * kStep < high; ++step) {
    plot.y_ticks.push_back({step * kStep, absl::StrCat(step * kStep / 1e6)});
  }
  return plot.ToSvg();
}

}  // namespace

std::string ScalingPlots(const ScalingResult& scaling) {
  return absl::StrCat(
      RatePlot(scaling.callers),
      TimesPlot("Callers of one host: one call", "callers",
                {{"p50", &scaling.callers, &ScalingPoint::p50_ns, true},
                 {"p99", &scaling.callers, &ScalingPoint::p99_ns, false}}),
      TimesPlot("Hosts of which one is called: one call", "hosts",
                {{"awake, p50", &scaling.hosts_awake, &ScalingPoint::p50_ns, true},
                 {"awake, p99", &scaling.hosts_awake, &ScalingPoint::p99_ns, false},
                 {"asleep, p50", &scaling.hosts_asleep, &ScalingPoint::p50_ns, true},
                 {"asleep, p99", &scaling.hosts_asleep, &ScalingPoint::p99_ns, false}}));
}

}  // namespace bulkhead
