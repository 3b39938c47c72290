// SPDX-License-Identifier: Apache-2.0
//
// What the sandbox of a host costs: the time to enter and test all layers, its share of a start,
// and what it adds to a call, which should be nothing. Hosts with all layers and hosts with none
// are started in turn, as a supervisor starts them, with the driver null.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench_main.h"
#include "bench/judge.h"
#include "host/cli/program.h"
#include "host/report/percentiles.h"
#include "host/report/report.h"
#include "host/supervisor/host_cgroup.h"
#include "host/supervisor/host_user.h"
#include "host/supervisor/manifest.h"
#include "host/supervisor/spawner.h"
#include "ipc/abi/names.h"
#include "ipc/abi/sandbox.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/testing/host_process_fixture.h"

namespace bulkhead {
namespace {

constexpr double kSetUpMsMax = 5;
constexpr double kCallRatioMax = 1.15;
constexpr int kCalls = 2000;  // of each host

struct Samples {
  std::vector<double> start_ms, calls_us;
  std::vector<double> set_up_ms;
};

class Bench {
 public:
  static absl::StatusOr<Bench> Create(const BenchRun& run) {
    Bench bench;
    absl::StatusOr<Manifest> manifest = FindDriver("null", DriverSearchFolders());
    if (!manifest.ok()) return manifest.status();
    bench.manifest_ = *std::move(manifest);
    bench.program_ = run.program->HostPath();
    auto shim = EmbeddedShim::Create({.deadline_ns = 60 * kNanosecondsPerSecond});
    if (!shim.ok()) return shim.status();
    bench.shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "null";
    spec.geometry = kGeometry;
    spec.cache_entries = 0;
    absl::StatusOr<ChannelId> channel = bench.shim_->AddChannel(spec);
    if (!channel.ok()) return channel.status();
    bench.channel_ = *channel;
    const HostUser user = ChooseHostUser(0, {},
                                         {.paths = {bench.manifest_.LibraryPath()},
                                          .writable = {},
                                          .package = bench.manifest_.folder,
                                          .content = ""});
    bench.user_ = user.id;
    bench.user_lacks_ = user.lacks;
    return bench;
  }

  // One life of a host: its start, its calls and its end.
  absl::Status Live(uint32_t layers, Samples& samples) {
    ++generation_;
    absl::StatusOr<std::unique_ptr<HostRun>> run =
        HostRun::SpawnInNamespace(program_, manifest_.Limits(), &groups_);
    if (!run.ok()) return run.status();
    HostRun& host = **run;
    AttachFields fields;
    fields.generation = generation_;
    fields.geometry = kGeometry;
    fields.workers = 1;
    fields.driver_name = manifest_.name;
    fields.driver_path = manifest_.LibraryPath();
    fields.callbacks = manifest_.callbacks;
    fields.spin_ns = 50'000;
    fields.sandbox = layers;
    fields.user = user_;
    fields.user_lacks = user_lacks_;
    if (absl::Status status = host.Begin(*shim_, channel_, fields); !status.ok()) return status;
    samples.start_ms.push_back(static_cast<double>(MonotonicNowNs() - host.spawned_ns()) / 1e6);
    samples.set_up_ms.push_back(host.sandbox().spent_us / 1e3);
    if (layers != 0) lacks_ = host.sandbox().lacks;
    for (int call = 0; call < kCalls; ++call) {
      FileRequest request;
      request.inode = static_cast<uint64_t>(call);
      const uint64_t before_ns = MonotonicNowNs();
      if (shim_->Call(request).outcome != BH_OUTCOME_ANSWERED) {
        return absl::InternalError("a call got no answer");
      }
      samples.calls_us.push_back(static_cast<double>(MonotonicNowNs() - before_ns) / 1e3);
    }
    host.Kill();
    return shim_->EndGeneration(channel_, generation_, BH_END_KILLED).status();
  }

  const std::vector<std::string>& lacks() const { return lacks_; }

 private:
  static constexpr bh_geometry kGeometry = {
      .lanes = 1, .slots_per_lane = 8, .call_chunks = 16, .reply_chunks = 0};
  Bench() = default;
  Manifest manifest_;
  std::string program_;
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelId channel_ = 0;
  HostCgroups groups_ = HostCgroups::Find();
  uid_t user_ = 0;
  std::string user_lacks_;
  uint32_t generation_ = 0;
  std::vector<std::string> lacks_;
};

absl::Status Measure(const BenchRun& run, Report& report) {
  absl::StatusOr<Bench> bench = Bench::Create(run);
  if (!bench.ok()) return bench.status();
  Samples with, without;
  for (int round = 0; round < run.count; ++round) {
    if (run.interrupted()) return Interrupted();
    for (const bool all : {round % 2 == 0, round % 2 != 0}) {
      absl::Status status = bench->Live(all ? BH_LAYERS_ALL : 0u, all ? with : without);
      if (!status.ok()) return status;
    }
  }
  const Percentiles set_up = ComputePercentiles(with.set_up_ms);
  const double start = ComputePercentiles(with.start_ms).p50;
  const double bare = ComputePercentiles(without.start_ms).p50;
  AddAtMost(report, "set-up of all layers: p50", set_up.p50, "ms", kSetUpMsMax, run.limited);
  report.AddInfo("set-up of all layers: max", set_up.max, "ms");
  report.AddInfo("start of a host with all layers, until it serves: p50", start, "ms");
  report.AddInfo("start of a host with none: p50", bare, "ms");
  report.AddInfo("share of the set-up in a start", 100 * set_up.p50 / start, "%");
  AddAtMost(report, "call with all layers, beside none: p50",
            ComputePercentiles(with.calls_us).p50 / ComputePercentiles(without.calls_us).p50, "x",
            kCallRatioMax, run.limited);
  report.AddInfo("layers that this machine lacks", static_cast<double>(bench->lacks().size()), "");
  for (const std::string& lack : bench->lacks())
    std::printf("this machine lacks %s\n", lack.c_str());
  return absl::OkStatus();
}

class SandboxBenchmark final : public Benchmark {
 public:
  std::string name() const override { return "sandbox"; }
  std::string about() const override {
    return "What the sandbox of a host costs: its set-up, and a call in it";
  }
  BenchCount count() const override {
    return {.option = "--rounds",
            .about = "Hosts to start of each kind",
            .usual = 200,
            .short_form = 40,
            .max = 10'000};
  }
  absl::Status Measure(const BenchRun& run, Report& report) override {
    return bulkhead::Measure(run, report);
  }
};

}  // namespace

std::unique_ptr<Benchmark> MakeBenchmark() { return std::make_unique<SandboxBenchmark>(); }

}  // namespace bulkhead
