// SPDX-License-Identifier: Apache-2.0
//
// bench-fanotify: what open(2) and close(2) of a real file cost
//   - bare: no listener is asked
//   - plain: a fanotify group whose thread allows at once, the kernel's way up and down alone
//   - bulkhead: `bulkhead run` with the driver null, which is asked each time
//   - cached: the same, and the driver's verdicts are remembered
// Each on a file system of its own, all in every round, in an order that turns. Ratios are formed
// round by round; their median counts.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench_main.h"
#include "bench/fanotify_responder.h"
#include "bench/watchdog.h"
#include "host/attachment/fanotify/fanotify_attachment.h"
#include "host/report/percentiles.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

constexpr size_t kFiles = 32;
constexpr int kOpens = 400;  // of a case in a round

enum Which : size_t { kBare, kPlain, kBulkhead, kCached, kCases };
constexpr std::array<const char*, kCases> kNames = {"bare", "plain", "bulkhead", "cached"};

// A folder, and how its files are opened.
class Case {
 public:
  explicit Case(std::unique_ptr<GuardedFolder> folder) : folder_(std::move(folder)) {}

  GuardedFolder& folder() { return *folder_; }
  uint64_t opens() const { return opens_; }
  uint64_t wrong() const { return wrong_; }
  const std::vector<double>& samples_ns() const { return samples_ns_; }

  // Files with even inode numbers to measure with, and one with an odd number: the driver refuses
  // it, so that a driver that is not asked is found out.
  absl::Status MakeFiles() {
    for (size_t i = 0; files_.size() < kFiles || odd_file_.empty(); ++i) {
      if (i > 100 * kFiles) return absl::InternalError("no inode number is odd, or none even");
      const std::string path = absl::StrCat(folder_->path(), "/file-", i);
      const UniqueFd made(open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644));
      struct stat status = {};
      if (!made.valid() || fstat(made.get(), &status) != 0) return absl::ErrnoToStatus(errno, path);
      if ((status.st_ino & 1) != 0) {
        odd_file_ = path;
      } else if (files_.size() < kFiles) {
        files_.push_back(path);
      }
    }
    return absl::OkStatus();
  }

  Percentiles Measure(bool refuses_odd) {
    if (Open(odd_file_) != (refuses_odd ? EPERM : 0)) ++wrong_;
    for (const std::string& file : files_) OpenAllowed(file);  // until it is as it will be
    std::vector<double> samples_ns;
    for (int i = 0; i < kOpens; ++i) {
      const std::string& file = files_[static_cast<size_t>(i) % files_.size()];
      const uint64_t started_ns = MonotonicNowNs();
      OpenAllowed(file);
      samples_ns.push_back(static_cast<double>(MonotonicNowNs() - started_ns));
    }
    samples_ns_.insert(samples_ns_.end(), samples_ns.begin(), samples_ns.end());
    return ComputePercentiles(std::move(samples_ns));
  }

 private:
  int Open(const std::string& file) {
    ++opens_;
    const int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return errno;
    close(descriptor);
    return 0;
  }
  void OpenAllowed(const std::string& file) {
    if (Open(file) != 0) ++wrong_;
  }

  std::unique_ptr<GuardedFolder> folder_;
  std::vector<std::string> files_;
  std::string odd_file_;
  uint64_t opens_ = 0;
  uint64_t wrong_ = 0;
  std::vector<double> samples_ns_;
};

struct Ratio {
  Which ours;
  Which floor;
};
constexpr Ratio kRatios[] = {
    {kBulkhead, kPlain}, {kBulkhead, kBare}, {kCached, kPlain}, {kCached, kBare}, {kPlain, kBare}};

void AddRatio(Report& report, const Ratio& ratio,
              const std::vector<std::array<Percentiles, kCases>>& rounds) {
  std::vector<double> p50, p99;
  for (const auto& round : rounds) {
    p50.push_back(round[ratio.ours].p50 / round[ratio.floor].p50);
    p99.push_back(round[ratio.ours].p99 / round[ratio.floor].p99);
  }
  const std::string name = absl::StrCat(kNames[ratio.ours], "_to_", kNames[ratio.floor]);
  report.AddInfo(absl::StrCat(name, "_p50"), ComputePercentiles(p50).p50, "");
  report.AddInfo(absl::StrCat(name, "_p99"), ComputePercentiles(p99).p50, "");
}

absl::Status Guard(const Program& program, GuardedFolder& folder, bool cached) {
  ServiceOptions options;
  options.drivers = {"null"};
  options.each.options = cached ? "deny-odd cache" : "deny-odd";
  options.each.cache_entries = cached ? 4096 : 0;
  return folder.Guard(program, options, /*quiet=*/true);
}

absl::StatusOr<bh_statistics> StatisticsOf(const GuardedFolder& folder) {
  const absl::StatusOr<StatusFields> status = folder.Status();
  if (!status.ok()) return status.status();
  return status->drivers[0].statistics;
}

// How many of the opens were answered by another listener than the measured one, or by none.
double Unasked(uint64_t opens, uint64_t answered) {
  return opens > answered ? static_cast<double>(opens - answered) : 0;
}

absl::Status Measure(const BenchRun& run, Report& report) {
  std::vector<Case> cases;
  for (size_t i = 0; i < kCases; ++i) {
    absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create();
    if (!folder.ok()) return folder.status();
    (*folder)->EndServiceWithItsStarter();
    cases.emplace_back(*std::move(folder));
    if (absl::Status status = cases.back().MakeFiles(); !status.ok()) return status;
  }
  for (const Which which : {kBulkhead, kCached}) {
    if (absl::Status status = Guard(*run.program, cases[which].folder(), which == kCached);
        !status.ok())
      return status;
  }
  absl::StatusOr<std::unique_ptr<FanotifyResponder>> responder =
      FanotifyResponder::Start(cases[kPlain].folder().path());
  if (!responder.ok()) return responder.status();

  Watchdog watchdog;  // a listener that does not answer keeps an open for ever
  std::vector<std::array<Percentiles, kCases>> measured;
  for (int round = 0; round < run.count; ++round) {
    if (run.interrupted()) return Interrupted();
    std::array<Percentiles, kCases> now;
    for (size_t i = 0; i < kCases; ++i) {
      const size_t which = (static_cast<size_t>(round) + i) % kCases;
      const Watchdog::Section section = watchdog.Watch("the end of a series of opens");
      now[which] = cases[which].Measure(which == kBulkhead || which == kCached);
    }
    measured.push_back(now);
  }
  const absl::StatusOr<bh_statistics> bulkhead = StatisticsOf(cases[kBulkhead].folder());
  if (!bulkhead.ok()) return bulkhead.status();
  const absl::StatusOr<bh_statistics> cached = StatisticsOf(cases[kCached].folder());
  if (!cached.ok()) return cached.status();

  uint64_t wrong = 0;
  for (size_t i = 0; i < kCases; ++i) {
    const Percentiles all = ComputePercentiles(cases[i].samples_ns());
    report.AddInfo(absl::StrCat(kNames[i], "_p50"), all.p50 / 1e3, "us");
    report.AddInfo(absl::StrCat(kNames[i], "_p99"), all.p99 / 1e3, "us");
    wrong += cases[i].wrong();
  }
  for (const Ratio& ratio : kRatios) AddRatio(report, ratio, measured);
  report.AddFigure("wrong", static_cast<double>(wrong), "", 0, Report::Relation::kAtMost);
  report.AddFigure("unasked",
                   Unasked(cases[kPlain].opens(), (*responder)->answered()) +
                       Unasked(cases[kBulkhead].opens(), bulkhead->answered) +
                       Unasked(cases[kCached].opens(), cached->answered + cached->cached),
                   "", 0, Report::Relation::kAtMost);
  report.AddFigure(
      "cached_share",
      static_cast<double>(cached->cached) / static_cast<double>(cases[kCached].opens()), "", 0.9,
      Report::Relation::kAtLeast);
  report.AddInfo("rounds", static_cast<double>(measured.size()), "");
  return absl::OkStatus();
}

class FanotifyBenchmark final : public Benchmark {
 public:
  std::string name() const override { return "fanotify"; }
  std::string about() const override {
    return "What open(2) and close(2) cost: bare, under plain fanotify, under Bulkhead (root)";
  }
  BenchCount count() const override {
    return {.option = "--rounds",
            .about = "Rounds; each measures everything once",
            .usual = 200,
            .short_form = 20,
            .max = 10'000};
  }
  absl::Status Probe() override { return FanotifyAttachment::Probe(); }
  absl::Status Measure(const BenchRun& run, Report& report) override {
    return bulkhead::Measure(run, report);
  }
};

}  // namespace

std::unique_ptr<Benchmark> MakeBenchmark() { return std::make_unique<FanotifyBenchmark>(); }

}  // namespace bulkhead
