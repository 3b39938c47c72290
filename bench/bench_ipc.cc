// SPDX-License-Identifier: Apache-2.0
//
// bench-ipc: what a call costs, beside the raw line and the futex that do the same work
// (ipc_floor.h), and beside other ways to ask another process (peers/comparison.h); what payloads
// (ipc_payload.h) and streams of notifications (ipc_stream.h) cost; how calls scale (ipc_scaling.h,
// idle_hosts.h), what a busy CPU does to them (ipc_hog.h), and what a channel's birth and its
// host's death take (ipc_lifetime.h).
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <array>
#include <iostream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/algorithm/container.h"
#include "bench/bench_main.h"
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
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

// Of what takes longer than a unit.
int Rounds(const BenchRun& run) { return (run.count + 3) / 4; }

// What the page draws; the rest is in the report alone.
struct Results {
  ComparisonResult peers;
  ScalingResult scaling;
};

absl::Status MeasurePeers(const BenchRun& run, Report& report, Results& results) {
  absl::StatusOr<ComparisonResult> peers = Compare(run, PeerKinds(), run.count);
  if (!peers.ok()) return peers.status();
  results.peers = *std::move(peers);
  AddComparison(results.peers, run.limited, report);
  return absl::OkStatus();
}

absl::Status MeasureCallersAndHosts(const BenchRun& run, Report& report, Results& results) {
  absl::StatusOr<ScalingResult> scaling = MeasureScaling(run, Rounds(run));
  if (!scaling.ok()) return scaling.status();
  results.scaling = *std::move(scaling);
  AddScaling(results.scaling, run.limited, report);
  return absl::OkStatus();
}

struct Part {
  const char* name;
  absl::Status (*measure)(const BenchRun&, Report&, Results&);
};

constexpr std::array<Part, 9> kParts = {{
    {"floor", [](const BenchRun& run, Report& report,
                 Results&) { return MeasureFloors(run, run.count, report); }},
    {"payloads", [](const BenchRun& run, Report& report,
                    Results&) { return MeasurePayloads(run, Rounds(run), report); }},
    {"streams", [](const BenchRun& run, Report& report,
                   Results&) { return MeasureStreams(run, Rounds(run), report); }},
    {"peers", &MeasurePeers},
    {"scaling", &MeasureCallersAndHosts},
    {"hog", [](const BenchRun& run, Report& report,
               Results&) { return MeasureHog(run, Rounds(run), report); }},
    {"channel", [](const BenchRun& run, Report& report,
                   Results&) { return MeasureNewChannel(run, run.count, report); }},
    {"death", [](const BenchRun& run, Report& report,
                 Results&) { return MeasureDeath(run, (Rounds(run) + 1) / 2, report); }},
    {"idle",
     [](const BenchRun& run, Report& report, Results&) {
       return MeasureIdleHosts(run, (run.short_form ? 2 : 10) * kNanosecondsPerSecond, report);
     }},
}};

std::vector<std::string> PartNames() {
  std::vector<std::string> names;
  for (const Part& part : kParts) names.emplace_back(part.name);
  return names;
}

class IpcBenchmark final : public Benchmark {
 public:
  std::string name() const override { return "ipc"; }
  std::string about() const override {
    return "What a call costs, beside the floor and beside other ways to ask another process";
  }
  BenchCount count() const override {
    return {.option = "--units",
            .about = "Measurements of each case and of each peer",
            .usual = 300,
            .short_form = 20,
            .max = 100'000};
  }

  void AddOptions(CLI::App& app) override {
    app.footer(
        "Google Benchmark's flags work for the floor: --benchmark_filter=spinning, "
        "--benchmark_out=FILE");
    CLI::Option* html =
        app.add_option("--html", html_, "Write a page with plots to this file")->type_name("FILE");
    app.add_option("--only", only_, "Measure this part; may be given more than once")
        ->type_name("PART")
        ->check(CLI::IsMember(PartNames()))
        ->excludes(html);
  }

  void TakeFlags(int* count, char** words) override {
    // Those of the command line come after this one, and so win.
    std::vector<char*> all(words, words + *count);
    std::string interleave = "--benchmark_enable_random_interleaving=true";
    all.insert(all.begin() + 1, interleave.data());
    int left = static_cast<int>(all.size());
    benchmark::Initialize(&left, all.data());
    *count = left;
    std::copy(all.begin(), all.begin() + left, words);
  }

  absl::Status Probe() override {
    if (sysconf(_SC_NPROCESSORS_ONLN) >= 2) return absl::OkStatus();
    return absl::UnavailableError(
        "two processes on two CPUs are measured, and this machine has one");
  }

  absl::Status Measure(const BenchRun& run, Report& report) override {
    Results results;
    for (const Part& part : kParts) {
      if (!only_.empty() && !absl::c_linear_search(only_, part.name)) continue;
      std::cerr << "bench-ipc: " << part.name << "\n";
      if (absl::Status status = part.measure(run, report, results); !status.ok()) return status;
    }
    if (!results.peers.transports.empty()) {
      PrintComparison(results.peers, std::cout);
      std::cout << "\n";
    }
    if (html_.empty()) return absl::OkStatus();
    return WriteFileAtomically(
        html_, IpcPage(results.peers, ScalingPlots(results.scaling), report, run.command));
  }

 private:
  std::vector<std::string> only_;
  std::string html_;
};

}  // namespace

std::unique_ptr<Benchmark> MakeBenchmark() { return std::make_unique<IpcBenchmark>(); }

}  // namespace bulkhead
