// SPDX-License-Identifier: Apache-2.0
#include "tests/storm/file_storm.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "tests/storm/storm_files.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;

}  // namespace

int StormOnFiles(const Program& program, const StormOptions& options, const FileStorm& plan) {
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create(kStormService);
  if (!folder.ok()) return Complain(folder.status());
  const absl::StatusOr<StormFiles> files = StormFiles::Create((*folder)->path(), kDeadlineNs);
  if (!files.ok()) return Complain(files.status());
  if (absl::Status status = (*folder)->Guard(program, StormService(kDeadlineNs), /*quiet=*/true);
      !status.ok()) {
    return Complain(status);
  }

  Killer killer([&] { return plan.kill_shim ? (*folder)->ShimPid() : (*folder)->HostPid(); },
                plan.every_ms * kNanosecondsPerMillisecond);
  StormFiles::Tally tally;
  const std::atomic<uint64_t> unguarded{0};
  std::atomic<bool> killed_enough{plan.kills_min == 0}, done{false};
  // SUBTLE: it only has to give each number once; a flag that is seen late costs one more open.
  std::atomic<uint64_t> next{0};
  const uint64_t started_ns = program.now_ns();
  std::vector<std::thread> openers;
  for (unsigned i = 0; i < options.threads; ++i) {
    openers.emplace_back([&] {
      while (!program.interrupted->load(std::memory_order_relaxed)) {
        const uint64_t number = next.fetch_add(1, std::memory_order_relaxed);
        if (number >= plan.opens && killed_enough.load(std::memory_order_relaxed)) break;
        files->Open(number, unguarded, killer, tally);
      }
    });
  }
  std::thread reaper([&] {
    killer.Run(plan.kills_max, done);
    killed_enough.store(true);
  });
  // Without a number of kills to reach, the kills last as long as the opens.
  for (std::thread& opener : openers) opener.join();
  done.store(true);
  reaper.join();
  const double seconds = static_cast<double>(program.now_ns() - started_ns) / 1e9;
  const absl::StatusOr<StatusFields> status = (*folder)->Status();
  if (!status.ok()) return Complain(status.status());
  const absl::StatusOr<std::map<std::string, double>> counts = (*folder)->Stop();
  if (!counts.ok()) return Complain(counts.status());
  const auto count = [&](const char* name) {
    const auto found = counts->find(name);
    return found != counts->end() ? found->second : -1.0;
  };

  Report report(absl::StrCat("storm ", plan.name));
  report.AddFigure("opens", static_cast<double>(tally.calls.load()), "",
                   static_cast<double>(plan.opens), Report::Relation::kAtLeast);
  report.AddFigure("kills", static_cast<double>(killer.kills()), "",
                   static_cast<double>(std::max<uint64_t>(plan.kills_min, 1)),
                   Report::Relation::kAtLeast);
  report.AddFigure("wrong", static_cast<double>(tally.wrong.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("errors", static_cast<double>(tally.errors.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("past_deadline", static_cast<double>(tally.late.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("by_policy", count("replayed") + count("full") + count("crowded"), "", 0,
                   Report::Relation::kAtMost);
  if (plan.kill_shim) {
    const std::vector<double> recoveries = killer.recoveries_ms();
    report.AddFigure("takeovers", count("shim_incarnations") - 1, "",
                     static_cast<double>(plan.kills_min), Report::Relation::kAtLeast);
    report.AddInfo("adopted", count("adopted"), "");
    report.AddInfo("longest_takeover",
                   recoveries.empty() ? 0 : *std::max_element(recoveries.begin(), recoveries.end()),
                   "ms");
  } else {
    AddRecoveryFigures(report, killer);
    report.AddInfo("reissued", static_cast<double>(status->drivers[0].statistics.reissued), "");
  }
  report.AddInfo("longest_open", static_cast<double>(tally.longest_ns.load()) / 1e6, "ms");
  report.AddInfo("time", seconds, "s");
  return Conclude(report, options.json);
}

}  // namespace bulkhead
