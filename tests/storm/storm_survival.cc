// SPDX-License-Identifier: Apache-2.0
//
// storm-survival: four threads open files while bulkheadd is killed again and again. Its host and
// the shim answer all the time; the next bulkheadd goes on with them.
#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/report/percentiles.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "tests/storm/storm.h"
#include "tests/storm/storm_files.h"
#include "tests/testing/daemon_process.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;

int StormSurvival(const Program& program, const StormOptions& options) {
  const uint64_t kills = options.kills != 0 ? options.kills : options.short_form ? 50 : 1000;
  const uint64_t every_ms = options.every_ms != 0 ? options.every_ms : 20;
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create();
  if (!folder.ok()) return Complain(folder.status());
  const absl::StatusOr<StormFiles> files = StormFiles::Create((*folder)->path(), kDeadlineNs);
  if (!files.ok()) return Complain(files.status());
  absl::StatusOr<std::unique_ptr<DaemonProcess>> daemon = DaemonProcess::Create(
      program, absl::StrCat("[service]\nattachment = '", options.attach,
                            "'\n[[driver]]\nname = 'null'\noptions = 'deny-odd'\n",
                            "[[guard]]\nfolder = '", (*folder)->path(), "'\n"));
  if (!daemon.ok()) return Complain(daemon.status());
  if (absl::Status started = (*daemon)->Start().status(); !started.ok()) return Complain(started);
  const absl::StatusOr<StatusFields> before = (*daemon)->Status();
  if (!before.ok()) return Complain(before.status());

  StormFiles::Tally tally;
  Killer nobody([] { return pid_t{-1}; }, 0);
  const std::atomic<uint64_t> unguarded{0};
  std::atomic<bool> done{false};
  std::atomic<uint64_t> next{0};
  std::vector<std::thread> openers;
  for (unsigned i = 0; i < options.threads; ++i) {
    openers.emplace_back([&] {
      while (!done.load(std::memory_order_relaxed)) {
        files->Open(next.fetch_add(1, std::memory_order_relaxed), unguarded, nobody, tally);
      }
    });
  }
  std::vector<double> adopted_ms, all_ready_ms;
  absl::Status trouble;
  const uint64_t started_ns = program.now_ns();
  for (uint64_t i = 0; i < kills && !program.interrupted->load(); ++i) {
    // A pace: what happens meanwhile is the openers'.
    PollUntil(-1, 0, MonotonicAfterNs(every_ms * kNanosecondsPerMillisecond));
    (*daemon)->Kill();
    absl::StatusOr<double> ready_ms = (*daemon)->Start();
    trouble = ready_ms.status();
    if (!trouble.ok()) break;
    all_ready_ms.push_back(*ready_ms);
    absl::StatusOr<double> after_ms = (*daemon)->AdoptedAfterMs();
    trouble = after_ms.status();
    if (!trouble.ok()) break;
    adopted_ms.push_back(*after_ms);
  }
  done.store(true);
  for (std::thread& opener : openers) opener.join();
  if (!trouble.ok()) return Complain(trouble);
  const double seconds = static_cast<double>(program.now_ns() - started_ns) / 1e9;
  const absl::StatusOr<StatusFields> after = (*daemon)->Status();
  if (!after.ok()) return Complain(after.status());
  if (absl::Status stopped = (*daemon)->Stop(); !stopped.ok()) return Complain(stopped);

  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  const DriverStatusFields& driver = after->drivers[0];
  uint64_t by_policy = 0;
  for (const uint64_t count : driver.statistics.by_policy) by_policy += count;
  const Percentiles adoption = ComputePercentiles(adopted_ms);
  Report report("storm survival");
  report.AddFigure("kills", number(adopted_ms.size()), "", number(kills),
                   Report::Relation::kAtLeast);
  report.AddFigure("opens", number(tally.calls.load()), "", number(kills),
                   Report::Relation::kAtLeast);
  report.AddFigure("wrong", number(tally.wrong.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("errors", number(tally.errors.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("past_deadline", number(tally.late.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("by_policy", number(by_policy), "", 0, Report::Relation::kAtMost);
  report.AddFigure("hosts_replaced", number(driver.restarts), "", 0, Report::Relation::kAtMost);
  report.AddFigure("same_host", driver.pid == before->drivers[0].pid ? 1 : 0, "", 1,
                   Report::Relation::kAtLeast);
  report.AddInfo("adoption_p50", adoption.p50, "ms");
  report.AddFigure("adoption_p99", adoption.p99, "ms", 100, Report::Relation::kAtMost);
  report.AddInfo("adoption_max", adoption.max, "ms");
  report.AddInfo("ready_p50", ComputePercentiles(all_ready_ms).p50, "ms");
  report.AddInfo("ready_p99", ComputePercentiles(all_ready_ms).p99, "ms");
  report.AddInfo("longest_open", number(tally.longest_ns.load()) / 1e6, "ms");
  report.AddInfo("time", seconds, "s");
  return Conclude(report, options.json);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-survival",
       .about =
           "opens of real files while bulkheadd is killed and started again 1,000 times (root); "
           "adoption: from its start until it supervises the host; ready: until its guards are "
           "checked, too",
       .run = &bulkhead::StormSurvival,
       .attaches = true},
      argc, argv);
}
