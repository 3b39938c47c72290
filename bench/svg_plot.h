// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_SVG_PLOT_H_
#define BULKHEAD_BENCH_SVG_PLOT_H_

#include <string>
#include <utility>
#include <vector>

namespace bulkhead {

// Lines over a logarithmic x axis, as an <svg> element that needs nothing from elsewhere.
struct SvgPlot {
  struct Tick {
    double at;
    std::string label;
  };
  struct Series {
    std::string name;
    bool ours = false;                              // drawn stronger
    std::vector<std::pair<double, double>> points;  // x > 0; y as the ticks
  };

  std::string title, x_label, y_label;
  std::vector<Tick> x_ticks;  // ascending; the first and the last bound the plot
  std::vector<Tick> y_ticks;
  bool y_logarithmic = false;  // then all y > 0
  std::vector<Series> series;

  std::string ToSvg() const;
};

// For text and attributes of HTML and SVG.
std::string EscapeMarkup(std::string_view text);

// Nanoseconds as a reader would write them: 100 ns, 2 µs.
std::string FormatNs(double ns);

// Ticks at powers of ten around all x (or y) of the series, as nanoseconds.
std::vector<SvgPlot::Tick> DecadeTicksNs(double low_ns, double high_ns);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_SVG_PLOT_H_
