// SPDX-License-Identifier: Apache-2.0
//
// bench-checks: what it costs a call that nothing is believed unchecked. The path of a call is
// there twice, with the checks and without, each in a program of its own with its own peer; they
// take turns within milliseconds. Where their memory happens to lie makes more difference than
// what is looked for: so both start anew many times, and the median over the starts counts.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "bench/counted_calls.h"
#include "bench/peers/comparison.h"
#include "host/report/percentiles.h"
#include "host/report/report.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr int kExitSkipped = 77;
constexpr uint32_t kTrips = 2000;
constexpr uint32_t kProbeTrips = 500;
constexpr double kLimitPercent = 5;

struct Options {
  int starts = 60;
  int units = 20;
  bool unlimited = false;
  std::string json;
};

struct Found {
  std::vector<double> of_start[2];  // ratios of the starts, by kDistances
  int dropped = 0;
  bool failed = false;
};

// A program that makes calls.
class Caller {
 public:
  explicit Caller(const char* program) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return;
    end_ = UniqueFd(ends[0]);
    const UniqueFd other(ends[1]);
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(other.get(), STDIN_FILENO);
    execl(program, program, nullptr);
    _exit(127);
  }
  ~Caller() {
    end_.reset();
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  // Mean nanoseconds of a round trip; negative: it failed.
  double Calls(uint32_t round_trips) const { return Ask({.raw = 0, .round_trips = round_trips}); }
  double Raw(uint32_t round_trips) const { return Ask({.raw = 1, .round_trips = round_trips}); }

 private:
  double Ask(const CountedCalls& wanted) const {
    double mean_ns = -1;
    if (send(end_.get(), &wanted, sizeof(wanted), MSG_NOSIGNAL) != sizeof(wanted) ||
        recv(end_.get(), &mean_ns, sizeof(mean_ns), 0) != sizeof(mean_ns)) {
      return -1;
    }
    return mean_ns;
  }

  UniqueFd end_;
  pid_t pid_ = -1;
};

void MeasureStart(const Caller& checked, const Caller& unchecked, int units, Found& found) {
  std::vector<double> ratios[2];
  for (int i = 0; i < units; ++i) {
    const double before_ns = checked.Raw(kProbeTrips);
    const bool first = i % 2 == 0;
    double with_ns = first ? checked.Calls(kTrips) : 0;
    const double without_ns = unchecked.Calls(kTrips);
    if (!first) with_ns = checked.Calls(kTrips);
    const double after_ns = checked.Raw(kProbeTrips);
    found.failed = found.failed || before_ns < 0 || after_ns < 0 || with_ns < 0 || without_ns < 0;
    if (found.failed) return;
    if (std::max(before_ns, after_ns) > kProbesAgree * std::min(before_ns, after_ns)) {
      ++found.dropped;
      continue;
    }
    ratios[before_ns < kNearNs ? 0 : 1].push_back(with_ns / without_ns);
  }
  for (size_t at = 0; at < kDistances.size(); ++at) {
    if (ratios[at].size() * 2 < static_cast<size_t>(units)) continue;
    found.of_start[at].push_back(ComputePercentiles(ratios[at]).p50);
  }
}

int Run(const Options& options) {
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
    std::printf("SKIP: two processes on two CPUs are measured, and this machine has one\n");
    return kExitSkipped;
  }
  const std::string folder = std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  const std::string checked = folder + "/counted-calls",
                    unchecked = folder + "/counted-calls-unchecked";
  Found found;
  for (int i = 0; i < options.starts && !found.failed; ++i) {
    // Who starts first may get the better memory: it is each one's turn.
    const bool swapped = i % 2 != 0;
    const Caller first((swapped ? unchecked : checked).c_str());
    const Caller second((swapped ? checked : unchecked).c_str());
    MeasureStart(swapped ? second : first, swapped ? first : second, options.units, found);
  }
  Report report("bench checks");
  for (size_t at = 0; at < kDistances.size(); ++at) {
    if (found.of_start[at].empty()) continue;  // the CPUs never stood like that
    const Percentiles ratio = ComputePercentiles(found.of_start[at]);
    const std::string name = absl::StrCat("checks_cost_", kDistances[at]);
    const double percent = (ratio.p50 - 1) * 100;
    if (options.unlimited) {
      report.AddInfo(name, percent, "%");
    } else {
      report.AddFigure(name, percent, "%", kLimitPercent, Report::Relation::kAtMost);
    }
    report.AddInfo(absl::StrCat("starts_", kDistances[at]), static_cast<double>(ratio.count), "");
  }
  report.AddFigure("calls_failed", found.failed ? 1 : 0, "", 0, Report::Relation::kAtMost);
  report.AddInfo("units_dropped", found.dropped, "");
  report.PrintTable(std::cout);
  if (!options.json.empty()) {
    if (absl::Status status = report.WriteJson(options.json); !status.ok()) {
      std::cerr << "bench-checks: " << status.message() << "\n";
      return 2;
    }
  }
  return report.ExitCode();
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  CLI::App app("What the checks on a call's path cost, both sides awake");
  bulkhead::Options options;
  bool short_form = false;
  app.add_option("--starts", options.starts, "Times that both start anew")
      ->check(CLI::Range(1, 10'000));
  app.add_flag("--short", short_form, "The form for the test suite: 6 starts");
  app.add_flag("--unlimited", options.unlimited, "Judge no time, only whether everything works");
  app.add_option("--json", options.json, "Write the report to this file")->type_name("FILE");
  CLI11_PARSE(app, argc, argv);
  if (short_form) options.starts = 6;
  return bulkhead::Run(options);
}
