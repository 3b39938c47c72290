// SPDX-License-Identifier: Apache-2.0
#include "bench/idle_hosts.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/judge.h"
#include "host/cli/service_options.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

constexpr int kHosts = 64;
constexpr double kWakeUpsLimit = 0;

// Since the start of the threads.
struct Taken {
  uint64_t control_wake_ups = 0, worker_wake_ups = 0;
  uint64_t cpu_ticks = 0;  // user and system time

  Taken& operator+=(const Taken& other) {
    control_wake_ups += other.control_wake_ups;
    worker_wake_ups += other.worker_wake_ups;
    cpu_ticks += other.cpu_ticks;
    return *this;
  }
};

uint64_t ContextSwitches(const std::string& status_path) {
  uint64_t switches = 0;
  std::ifstream file(status_path);
  for (std::string line; std::getline(file, line);) {
    // voluntary_ctxt_switches and nonvoluntary_ctxt_switches
    if (line.find("voluntary_ctxt_switches:") == std::string::npos) continue;
    switches += std::stoull(line.substr(line.find(':') + 1));
  }
  return switches;
}

// utime and stime: fields 14 and 15 of a line whose second field, in brackets, may hold anything.
uint64_t CpuTicks(const std::string& stat_path) {
  std::ifstream file(stat_path);
  std::string line, skipped;
  std::getline(file, line);
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  for (int field = 3; field < 14; ++field) fields >> skipped;
  uint64_t user = 0, system = 0;
  fields >> user >> system;
  return user + system;
}

Taken TakenBy(pid_t pid) {
  Taken taken;
  std::error_code error;
  const std::string process = absl::StrCat("/proc/", pid);
  for (const auto& thread : std::filesystem::directory_iterator(process + "/task", error)) {
    const uint64_t switches = ContextSwitches(thread.path() / "status");
    const bool is_first = thread.path().filename() == std::to_string(pid);
    (is_first ? taken.control_wake_ups : taken.worker_wake_ups) += switches;
  }
  taken.cpu_ticks = CpuTicks(process + "/stat");
  return taken;
}

// In slices, so that a signal is noticed: they wake this process, and no host.
void Rest(const BenchRun& run, uint64_t span_ns) {
  const uint64_t until_ns = MonotonicAfterNs(span_ns);
  while (!run.interrupted() && MonotonicNowNs() < until_ns) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

struct Watched {
  std::shared_ptr<EmbeddedShim> shim;
  std::unique_ptr<Service> service;
};

}  // namespace

absl::Status MeasureIdleHosts(const BenchRun& run, uint64_t span_ns, Report& report) {
  ServiceOptions options;
  options.drivers = {"null"};
  std::vector<Watched> all(kHosts);
  for (Watched& one : all) {
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    if (!shim.ok()) return shim.status();
    one.shim = *std::move(shim);
    absl::StatusOr<std::unique_ptr<Service>> service =
        StartService(*run.program, options, one.shim, "embedded");
    if (!service.ok()) return service.status();
    one.service = *std::move(service);
  }
  const auto sum = [&all] {
    Taken taken;
    for (const Watched& one : all) taken += TakenBy(one.service->supervisor().HostPid("null"));
    return taken;
  };
  // Each is asked by a heartbeat or two, a second apart, before it is known to rest.
  Rest(run, 3 * kNanosecondsPerSecond);
  const uint64_t started_ns = MonotonicNowNs();
  const Taken before = sum();
  const Taken ours_before = TakenBy(getpid());
  Rest(run, span_ns);
  if (run.interrupted()) return Interrupted();
  const Taken after = sum();
  const Taken ours_after = TakenBy(getpid());
  const double seconds = static_cast<double>(MonotonicNowNs() - started_ns) / 1e9;
  const auto rate = [seconds](uint64_t from, uint64_t to) {
    return static_cast<double>(to - from) / seconds;
  };
  AddAtMost(report, "idle_64_hosts_wake_ups",
            rate(before.control_wake_ups + before.worker_wake_ups,
                 after.control_wake_ups + after.worker_wake_ups),
            "/s", kWakeUpsLimit, run.limited);
  report.AddInfo("idle_64_hosts_wake_ups_by_their_supervisors",
                 rate(before.control_wake_ups, after.control_wake_ups), "/s");
  report.AddInfo("idle_64_hosts_wake_ups_of_workers",
                 rate(before.worker_wake_ups, after.worker_wake_ups), "/s");
  report.AddInfo(
      "idle_64_hosts_cpu",
      100 * rate(before.cpu_ticks, after.cpu_ticks) / static_cast<double>(sysconf(_SC_CLK_TCK)),
      "% of one CPU");
  // Ours but for the thread that measures: the supervisors' and their shims'.
  report.AddInfo("idle_64_supervisors_wake_ups",
                 rate(ours_before.worker_wake_ups, ours_after.worker_wake_ups), "/s");
  return absl::OkStatus();
}

}  // namespace bulkhead
