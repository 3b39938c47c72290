// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/comparison_report.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "host/report/percentiles.h"

namespace bulkhead {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const TransportResult& transport) {
  Json json;
  json["name"] = transport.kind.name;
  json["title"] = transport.kind.title;
  if (!transport.skipped.empty()) json["skipped"] = transport.skipped;
  if (!transport.broken.empty()) json["broken"] = transport.broken;
  json["calls"] = transport.calls;
  for (size_t i = 0; i < kDistances.size(); ++i) {
    const TransportResult::AtDistance& at = transport.at[i];
    if (at.units == 0) continue;
    const Percentiles ns = ComputePercentiles(at.samples_ns);
    Json& entry = json[kDistances[i]];
    entry["units"] = at.units;
    entry["samples"] = ns.count;
    entry["p50_ns"] = ns.p50;
    entry["p99_ns"] = ns.p99;
    entry["p999_ns"] = ns.p999;
    entry["max_ns"] = ns.max;
    if (!at.times_ours.empty()) entry["times_ours_p50"] = ComputePercentiles(at.times_ours).p50;
  }
  return json;
}

}  // namespace

void AddComparison(const ComparisonResult& comparison, bool limited, Report& report) {
  Json peers = Json::array();
  uint64_t wrong = 0;
  size_t working = 0, broken = 0, skipped = 0;
  for (const TransportResult& transport : comparison.transports) {
    peers.push_back(ToJson(transport));
    wrong += transport.wrong;
    if (!transport.skipped.empty()) ++skipped;
    // Without limits the machine may be busy with other work, and a library that gives up then is
    // no failure of this benchmark; the transports of the kernel alone must always work.
    if (!transport.broken.empty() && (limited || !transport.kind.HasLibrary())) ++broken;
    if (transport.calls > 0 && transport.broken.empty()) ++working;
    for (size_t i = 0; i < kDistances.size(); ++i) {
      const std::vector<double>& times = transport.at[i].times_ours;
      if (!transport.kind.has_limit || times.empty()) continue;
      const std::string name = absl::StrCat(transport.kind.name, "_", kDistances[i], "_times_ours");
      const double median = ComputePercentiles(times).p50;
      if (limited) {
        report.AddFigure(name, median, "", kTimesFaster, Report::Relation::kAtLeast);
      } else {
        report.AddInfo(name, median, "");
      }
    }
  }
  report.AddInfo("peers_working", static_cast<double>(working), "");
  report.AddInfo("peers_skipped", static_cast<double>(skipped), "");
  report.AddFigure("peers_broken", static_cast<double>(broken), "", 0, Report::Relation::kAtMost);
  report.AddFigure("peers_calls_wrong", static_cast<double>(wrong), "", 0,
                   Report::Relation::kAtMost);
  report.AddInfo("peers_units_dropped", static_cast<double>(comparison.units_dropped), "");
  report.SetDetail("peers", std::move(peers));
}

void PrintComparison(const ComparisonResult& comparison, std::ostream& out) {
  out << absl::StrFormat("%-18s %-5s %9s %9s %9s %7s %10s\n", "48 bytes and back", "CPUs", "p50 ns",
                         "p99 ns", "p99.9 ns", "calls", "times ours");
  for (const TransportResult& transport : comparison.transports) {
    const std::string& name = transport.kind.name;
    if (!transport.skipped.empty()) {
      out << absl::StrFormat("%-18s SKIP: %s\n", name, transport.skipped);
      continue;
    }
    if (!transport.broken.empty()) {
      out << absl::StrFormat("%-18s BROKEN: %s\n", name, transport.broken);
      continue;
    }
    bool measured = false;
    for (size_t i = 0; i < kDistances.size(); ++i) {
      const TransportResult::AtDistance& at = transport.at[i];
      if (at.units == 0) continue;
      measured = true;
      const Percentiles ns = ComputePercentiles(at.samples_ns);
      out << absl::StrFormat("%-18s %-5s %9.0f %9.0f %9.0f %7d", name, kDistances[i], ns.p50,
                             ns.p99, ns.p999, ns.count);
      if (!at.times_ours.empty()) {
        out << absl::StrFormat(" %10.2f", ComputePercentiles(at.times_ours).p50);
      }
      out << "\n";
    }
    if (!measured) {
      out << absl::StrFormat("%-18s %d calls, but the CPUs moved in every unit\n", name,
                             transport.calls);
    }
  }
}

}  // namespace bulkhead
