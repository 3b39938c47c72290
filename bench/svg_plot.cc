// SPDX-License-Identifier: Apache-2.0
#include "bench/svg_plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace bulkhead {
namespace {

constexpr double kWidth = 900, kHeight = 420;
constexpr double kLeft = 80, kRight = 210, kTop = 56, kBottom = 55;
constexpr double kLegendLine = 20;

// Told apart by hue and, from the second turn on, by dashes.
constexpr const char* kColours[] = {"#7a7a7a", "#d1495b", "#00798c", "#edae49",
                                    "#6a4c93", "#3a7d44", "#2e4057", "#c06014"};

class Axis {
 public:
  Axis(const std::vector<SvgPlot::Tick>& ticks, bool logarithmic, double from, double to)
      : logarithmic_(logarithmic),
        low_(Scale(ticks.front().at)),
        high_(Scale(ticks.back().at)),
        from_(from),
        to_(to) {}
  double operator()(double value) const {
    const double part = std::clamp((Scale(value) - low_) / (high_ - low_), 0.0, 1.0);
    return from_ + part * (to_ - from_);
  }

 private:
  double Scale(double value) const { return logarithmic_ ? std::log10(value) : value; }
  const bool logarithmic_;
  const double low_, high_, from_, to_;
};

std::string Text(double x, double y, const char* anchor, std::string_view text,
                 std::string_view more = "") {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>%s</text>\n", x, y,
                         anchor, more, EscapeMarkup(text));
}

std::string Line(double x1, double y1, double x2, double y2, std::string_view style) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2,
                         y2, style);
}

std::string Style(size_t index, bool ours) {
  const size_t colours = std::size(kColours);
  return absl::StrFormat("fill=\"none\" stroke=\"%s\" stroke-width=\"%s\"%s",
                         kColours[index % colours], ours ? "3" : "1.5",
                         index < colours ? "" : " stroke-dasharray=\"5 3\"");
}

}  // namespace

std::string EscapeMarkup(std::string_view text) {
  return absl::StrReplaceAll(absl::string_view(text.data(), text.size()),
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string FormatNs(double ns) {
  if (ns < 1e3) return absl::StrFormat("%g ns", ns);
  if (ns < 1e6) return absl::StrFormat("%g µs", ns / 1e3);
  if (ns < 1e9) return absl::StrFormat("%g ms", ns / 1e6);
  return absl::StrFormat("%g s", ns / 1e9);
}

std::vector<SvgPlot::Tick> DecadeTicksNs(double low_ns, double high_ns) {
  const auto first = static_cast<int>(std::floor(std::log10(std::max(low_ns, 1.0))));
  const auto last = static_cast<int>(std::ceil(std::log10(std::max(high_ns, 1.0))));
  std::vector<SvgPlot::Tick> ticks;
  for (int power = first; power <= std::max(last, first + 1); ++power) {
    const double ns = std::pow(10, power);
    ticks.push_back({ns, FormatNs(ns)});
  }
  return ticks;
}

std::string SvgPlot::ToSvg() const {
  const Axis x(x_ticks, true, kLeft, kWidth - kRight);
  const Axis y(y_ticks, y_logarithmic, kHeight - kBottom, kTop);
  std::string svg = absl::StrFormat("<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">\n",
                                    kWidth, kHeight, EscapeMarkup(title));
  absl::StrAppend(&svg, Text(kLeft, 20, "start", title, "font-weight=\"bold\""));
  const char* grid = "stroke=\"#dddddd\"";
  for (const Tick& tick : x_ticks) {
    absl::StrAppend(&svg, Line(x(tick.at), kTop, x(tick.at), kHeight - kBottom, grid),
                    Text(x(tick.at), kHeight - kBottom + 18, "middle", tick.label));
  }
  for (const Tick& tick : y_ticks) {
    absl::StrAppend(&svg, Line(kLeft, y(tick.at), kWidth - kRight, y(tick.at), grid),
                    Text(kLeft - 8, y(tick.at) + 4, "end", tick.label));
  }
  absl::StrAppend(&svg, Text((kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", x_label),
                  Text(kLeft - 60, kTop - 14, "start", y_label));
  for (size_t i = 0; i < series.size(); ++i) {
    absl::StrAppend(&svg, "<polyline ", Style(i, series[i].ours), " points=\"");
    for (const auto& [at_x, at_y] : series[i].points) {
      absl::StrAppend(&svg, absl::StrFormat("%.1f,%.1f ", x(at_x), y(at_y)));
    }
    absl::StrAppend(&svg, "\"><title>", EscapeMarkup(series[i].name), "</title></polyline>\n");
    const double legend_y = kTop + 8 + static_cast<double>(i) * kLegendLine;
    const double legend_x = kWidth - kRight + 15;
    absl::StrAppend(&svg,
                    Line(legend_x, legend_y, legend_x + 24, legend_y, Style(i, series[i].ours)),
                    Text(legend_x + 30, legend_y + 4, "start", series[i].name));
  }
  return svg + "</svg>\n";
}

}  // namespace bulkhead
