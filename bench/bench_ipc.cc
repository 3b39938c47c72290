// SPDX-License-Identifier: Apache-2.0
//
// bench-ipc: what a call costs, beside the raw line and the futex that do the same work
// (ipc_floor.h), and beside other ways to ask another process (peers/comparison.h); what payloads
// (ipc_payload.h) and streams of notifications (ipc_stream.h) cost; how calls scale (ipc_scaling.h,
// idle_hosts.h), what a busy CPU does to them (ipc_hog.h), and what a channel's birth and its
// host's death take (ipc_lifetime.h).
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/algorithm/container.h"
#include "bench/idle_hosts.h"
#include "bench/ipc_floor.h"
#include "bench/ipc_hog.h"
#include "bench/ipc_lifetime.h"
#include "bench/ipc_page.h"
#include "bench/ipc_payload.h"
#include "bench/ipc_scaling.h"
#include "bench/ipc_stream.h"
#include "bench/peers/comparison.h"
#include "bench/peers/comparison_report.h"
#include "host/report/atomic_file.h"
#include "host/report/report.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr int kExitSkipped = 77;

struct Options {
  int units = 300;
  uint64_t idle_ns = 10 * kNanosecondsPerSecond;
  bool unlimited = false;
  std::vector<std::string> only;
  std::string json, html, command;

  bool limited() const { return !unlimited; }
  // Of what takes longer, and of what is there for several sizes.
  int rounds() const { return (units + 3) / 4; }
};

// What the page draws; the rest is in the report alone.
struct Results {
  ComparisonResult peers;
  ScalingResult scaling;
};

absl::Status MeasurePeers(const Options& options, Report& report, Results& results) {
  absl::StatusOr<ComparisonResult> peers = Compare(PeerKinds(), options.units);
  if (!peers.ok()) return peers.status();
  results.peers = *std::move(peers);
  AddComparison(results.peers, options.limited(), report);
  return absl::OkStatus();
}

absl::Status MeasureCallersAndHosts(const Options& options, Report& report, Results& results) {
  absl::StatusOr<ScalingResult> scaling = MeasureScaling(options.rounds());
  if (!scaling.ok()) return scaling.status();
  results.scaling = *std::move(scaling);
  AddScaling(results.scaling, options.limited(), report);
  return absl::OkStatus();
}

struct Part {
  const char* name;
  absl::Status (*measure)(const Options&, Report&, Results&);
};

constexpr std::array<Part, 9> kParts = {{
    {"floor", [](const Options& options, Report& report,
                 Results&) { return MeasureFloors(options.units, options.limited(), report); }},
    {"payloads",
     [](const Options& options, Report& report, Results&) {
       return MeasurePayloads(options.rounds(), options.limited(), report);
     }},
    {"streams",
     [](const Options& options, Report& report, Results&) {
       return MeasureStreams(options.rounds(), options.limited(), report);
     }},
    {"peers", &MeasurePeers},
    {"scaling", &MeasureCallersAndHosts},
    {"hog", [](const Options& options, Report& report,
               Results&) { return MeasureHog(options.rounds(), options.limited(), report); }},
    {"channel",
     [](const Options& options, Report& report, Results&) {
       return MeasureNewChannel(options.units, options.limited(), report);
     }},
    {"death",
     [](const Options& options, Report& report, Results&) {
       return MeasureDeath((options.rounds() + 1) / 2, options.limited(), report);
     }},
    {"idle", [](const Options& options, Report& report,
                Results&) { return MeasureIdleHosts(options.idle_ns, options.limited(), report); }},
}};

std::vector<std::string> PartNames() {
  std::vector<std::string> names;
  for (const Part& part : kParts) names.emplace_back(part.name);
  return names;
}

absl::Status Measure(const Options& options, Report& report) {
  Results results;
  for (const Part& part : kParts) {
    const bool wanted = options.only.empty() || absl::c_linear_search(options.only, part.name);
    if (!wanted) continue;
    std::cerr << "bench-ipc: " << part.name << "\n";
    if (absl::Status status = part.measure(options, report, results); !status.ok()) return status;
  }
  if (!results.peers.transports.empty()) {
    PrintComparison(results.peers, std::cout);
    std::cout << "\n";
  }
  report.PrintTable(std::cout);
  if (!options.json.empty()) {
    if (absl::Status status = report.WriteJson(options.json); !status.ok()) return status;
  }
  if (options.html.empty()) return absl::OkStatus();
  return WriteFileAtomically(
      options.html, IpcPage(results.peers, ScalingPlots(results.scaling), report, options.command));
}

int Run(const Options& options) {
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
    std::printf("SKIP: two processes on two CPUs are measured, and this machine has one\n");
    return kExitSkipped;
  }
  Report report("bench ipc");
  if (absl::Status status = Measure(options, report); !status.ok()) {
    std::cerr << "bench-ipc: " << status.message() << "\n";
    return 2;
  }
  return report.ExitCode();
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  // Google Benchmark takes its own flags out; they come after this one, and so win.
  std::vector<char*> arguments(argv, argv + argc);
  std::string interleave = "--benchmark_enable_random_interleaving=true";
  arguments.insert(arguments.begin() + 1, interleave.data());
  int count = static_cast<int>(arguments.size());
  const bool help =
      std::any_of(argv, argv + argc, [](std::string_view word) { return word == "--help"; });
  if (!help) benchmark::Initialize(&count, arguments.data());

  CLI::App app("What a call costs, beside the floor and beside other ways to ask another process");
  app.footer(
      "Google Benchmark's flags work for the floor: --benchmark_filter=spinning, "
      "--benchmark_out=FILE");
  bulkhead::Options options;
  bool short_form = false;
  app.add_option("--units", options.units, "Measurements of each case and of each peer")
      ->check(CLI::Range(1, 100'000));
  app.add_flag("--short", short_form, "The form for the test suite: 20 units");
  app.add_flag("--unlimited", options.unlimited, "Judge no time, only whether everything works");
  app.add_option("--json", options.json, "Write the report to this file")->type_name("FILE");
  CLI::Option* html = app.add_option("--html", options.html, "Write a page with plots to this file")
                          ->type_name("FILE");
  app.add_option("--only", options.only, "Measure this part; may be given more than once")
      ->type_name("PART")
      ->check(CLI::IsMember(bulkhead::PartNames()))
      ->excludes(html);
  options.command = "./dev bench ipc";
  for (int i = 1; i < argc; ++i) options.command.append(" ").append(argv[i]);
  CLI11_PARSE(app, count, arguments.data());
  if (short_form) {
    options.units = 20;
    options.idle_ns = 2 * bulkhead::kNanosecondsPerSecond;
  }
  return bulkhead::Run(options);
}
