// SPDX-License-Identifier: Apache-2.0
#include "bench/ipc_page.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bench/svg_plot.h"
#include "host/report/percentiles.h"

namespace bulkhead {
namespace {

constexpr int kCurvePoints = 200;
constexpr const char* kStyle =
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.15em .8em;text-align:right;"
    "border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}"
    "svg{width:100%;height:auto;font:13px sans-serif}pre{background:#f4f4f4;padding:.8em;"
    "overflow-x:auto}";

std::string Output(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "re");
  if (pipe == nullptr) return output;
  std::array<char, 256> part;
  for (size_t size; (size = fread(part.data(), 1, part.size(), pipe)) > 0;) {
    output.append(part.data(), size);
  }
  pclose(pipe);
  return output;
}

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

std::string Provenance(const ComparisonResult& peers, const std::string& command) {
  std::set<std::string> packages = {"libc6", "g++"};
  for (const TransportResult& transport : peers.transports) {
    if (!transport.skipped.empty()) continue;
    for (absl::string_view name : absl::StrSplit(transport.kind.packages, ' ', absl::SkipEmpty())) {
      packages.emplace(name);
    }
  }
  std::string query = "dpkg-query -W -f '${Package} ${Version}\\n'";
  for (const std::string& name : packages) absl::StrAppend(&query, " ", name);
  utsname system;
  uname(&system);
  std::array<char, 64> date = {};
  const std::time_t now = std::time(nullptr);
  std::tm utc;
  (void)std::strftime(date.data(), date.size(), "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
  return absl::StrCat(
      "<h2>What made this page</h2>\n<pre>", EscapeMarkup(absl::StrCat("$ ", command)), "\n",
      EscapeMarkup(absl::StrCat(date.data(), "; ", ProcessorName(), ", ",
                                sysconf(_SC_NPROCESSORS_ONLN), " CPUs; ", system.sysname, " ",
                                system.release)),
      "\n\n", EscapeMarkup(absl::StrCat("$ ", query, "\n", Output(query + " 2>&1"))), "</pre>\n");
}

// The transports that were measured at this distance, with their samples in order.
struct Sorted {
  std::string name;
  std::vector<double> ns;
};
std::vector<Sorted> SortedAt(const ComparisonResult& peers, size_t distance) {
  std::vector<Sorted> all;
  for (const TransportResult& transport : peers.transports) {
    std::vector<double> ns = transport.at[distance].samples_ns;
    if (ns.empty()) continue;
    std::sort(ns.begin(), ns.end());
    all.push_back({transport.kind.name, std::move(ns)});
  }
  return all;
}

double Quantile(const std::vector<double>& sorted, double part) {
  const auto rank = static_cast<size_t>(part * static_cast<double>(sorted.size() - 1));
  return sorted[rank];
}

SvgPlot CdfPlot(const std::vector<Sorted>& all) {
  SvgPlot plot{.x_label = "round trip", .y_label = "of all calls"};
  double low = 1e9, high = 1;
  for (const Sorted& one : all) {
    SvgPlot::Series series{.name = one.name, .ours = one.name == "bulkhead"};
    for (int i = 0; i <= kCurvePoints; ++i) {
      const double part = 0.99 * i / kCurvePoints;
      series.points.emplace_back(Quantile(one.ns, part), 100 * part);
    }
    low = std::min(low, series.points.front().first);
    high = std::max(high, series.points.back().first);
    plot.series.push_back(std::move(series));
  }
  plot.x_ticks = DecadeTicksNs(low, high);
  for (const int percent : {0, 25, 50, 75, 100}) {
    plot.y_ticks.push_back({static_cast<double>(percent), absl::StrCat(percent, " %")});
  }
  return plot;
}

// Down to one call in ten thousand, as far as a transport has the samples for it.
SvgPlot TailPlot(const std::vector<Sorted>& all) {
  constexpr double kDecades = 4;
  SvgPlot plot{.x_label = "round trip at least", .y_label = "one call in", .y_logarithmic = true};
  double low = 1e9, high = 1;
  for (const Sorted& one : all) {
    SvgPlot::Series series{.name = one.name, .ours = one.name == "bulkhead"};
    for (int i = 0; i <= kCurvePoints; ++i) {
      const double one_in = std::pow(10, kDecades * i / kCurvePoints);
      if (one_in * 5 > static_cast<double>(one.ns.size())) break;
      series.points.emplace_back(Quantile(one.ns, 1 - 1 / one_in), one_in);
    }
    if (series.points.empty()) continue;
    low = std::min(low, series.points.front().first);
    high = std::max(high, series.points.back().first);
    plot.series.push_back(std::move(series));
  }
  plot.x_ticks = DecadeTicksNs(low, high);
  for (const int one_in : {1, 10, 100, 1000, 10000}) {
    plot.y_ticks.push_back({static_cast<double>(one_in), absl::StrCat(one_in)});
  }
  return plot;
}

std::string PeersTable(const ComparisonResult& peers) {
  std::string html =
      "<table><tr><th>48 bytes and back</th><th>CPUs</th><th>p50 ns</th><th>p99 ns</th>"
      "<th>p99.9 ns</th><th>calls</th><th>times ours</th></tr>\n";
  for (const TransportResult& transport : peers.transports) {
    const std::string title =
        EscapeMarkup(absl::StrCat(transport.kind.name, ": ", transport.kind.title));
    const std::string& why = transport.skipped.empty() ? transport.broken : transport.skipped;
    if (!why.empty()) {
      absl::StrAppend(&html, "<tr><td>", title, "</td><td colspan=\"6\">",
                      transport.skipped.empty() ? "broken: " : "skipped: ", EscapeMarkup(why),
                      "</td></tr>\n");
    }
    for (size_t i = 0; i < kDistances.size(); ++i) {
      const TransportResult::AtDistance& at = transport.at[i];
      if (at.units == 0) continue;
      const Percentiles ns = ComputePercentiles(at.samples_ns);
      absl::StrAppend(&html, absl::StrFormat("<tr><td>%s</td><td>%s</td><td>%.0f</td><td>%.0f</td>"
                                             "<td>%.0f</td><td>%d</td><td>%.2f</td></tr>\n",
                                             title, kDistances[i], ns.p50, ns.p99, ns.p999,
                                             ns.count, ComputePercentiles(at.times_ours).p50));
    }
  }
  return html + "</table>\n";
}

}  // namespace

std::string IpcPage(const ComparisonResult& peers, const std::string& scaling_plots,
                    const Report& report, const std::string& command) {
  std::string html = absl::StrCat(
      "<!DOCTYPE html>\n<!-- SPDX-License-Identifier: Apache-2.0 -->\n<html lang=\"en\"><head>"
      "<meta charset=\"utf-8\"><title>A call beside its peers</title><style>",
      kStyle, "</style></head><body>\n<h1>A call beside its peers</h1>\n",
      "<p>All were measured in the same rounds, each between two processes on two CPUs. A probe of "
      "the raw floor stands before and behind each unit; ",
      peers.units_dropped,
      " units whose probes disagreed were dropped. Near: the CPUs are neighbours. Far: they are "
      "not. Every time contains one reading of the clock (about 20 ns).</p>\n");
  for (size_t i = 0; i < kDistances.size(); ++i) {
    const std::vector<Sorted> all = SortedAt(peers, i);
    if (all.empty()) continue;
    SvgPlot cdf = CdfPlot(all), tail = TailPlot(all);
    cdf.title =
        absl::StrCat("48 bytes and back, CPUs ", kDistances[i], ": up to the 99th percentile");
    tail.title = absl::StrCat("48 bytes and back, CPUs ", kDistances[i], ": the tail");
    absl::StrAppend(&html, "<h2>CPUs ", kDistances[i], "</h2>\n", cdf.ToSvg(), tail.ToSvg());
  }
  std::ostringstream figures;
  report.PrintTable(figures);
  absl::StrAppend(&html, "<h2>Scaling</h2>\n", scaling_plots, "<h2>Peers</h2>\n", PeersTable(peers),
                  "<h2>Figures</h2>\n<pre>", EscapeMarkup(figures.str()), "</pre>\n",
                  Provenance(peers, command));
  return html + "</body></html>\n";
}

}  // namespace bulkhead
