// SPDX-License-Identifier: Apache-2.0
//
// The storm on the kernel module, in three parts, each with as many calls: the host is killed again
// and again; the supervisor is, and the next one takes over; the module is ejected, unloaded and
// loaded again. Files are unguarded from an eject until the next supervisor guards, and never else.
#include <signal.h>
#include <time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "host/attachment/module/module_operator.h"
#include "host/report/percentiles.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "tests/storm/storm.h"
#include "tests/storm/storm_files.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

// Longer than a supervisor takes to start, in an emulated machine too: a call that waits for it is
// answered.
constexpr uint64_t kDeadlineNs = 30 * kNanosecondsPerSecond;
constexpr uint64_t kUnloadsWithinNs = 10 * kNanosecondsPerSecond;
constexpr uint64_t kExecuteEach = 5;            // one execution in so many calls
constexpr uint64_t kCallsBetweenReloads = 200;  // that are guarded

class ModuleStorm {
 public:
  ModuleStorm(const Program& program, const StormOptions& options, uint64_t calls,
              GuardedFolder* folder, const StormFiles* files)
      : program_(program), options_(options), calls_(calls), folder_(*folder), files_(*files) {}

  absl::Status Start() { return folder_.Guard(program_, service_, /*quiet=*/true, "module"); }

  absl::Status KillHosts(Killer& killer) {
    return Part(killer, /*to_the_end=*/false, [&](const std::atomic<bool>& done) {
      killer.Run(UINT64_MAX, done);
      return absl::OkStatus();
    });
  }

  absl::Status KillSupervisors(Killer& killer, uint64_t kills) {
    return Part(killer, /*to_the_end=*/true, [&](const std::atomic<bool>&) {
      for (uint64_t i = 1; i <= kills && !program_.interrupted->load(); ++i) {
        killer.Run(i, *program_.interrupted);
        folder_.Reap();
        if (absl::Status status = Start(); !status.ok()) return status;
      }
      return absl::OkStatus();
    });
  }

  absl::Status Reload(uint64_t reloads) {
    Killer no_kills([] { return -1; }, 0);
    return Part(no_kills, /*to_the_end=*/true, [&](const std::atomic<bool>&) {
      for (uint64_t i = 0; i < reloads && !program_.interrupted->load(); ++i) {
        if (absl::Status status = ReloadOnce(); !status.ok()) return status;
        const uint64_t calls = tally_.calls.load() + kCallsBetweenReloads;
        while (tally_.calls.load() < calls && !program_.interrupted->load()) Pause();
        ++reloads_;
      }
      return absl::OkStatus();
    });
  }

  const StormFiles::Tally& tally() const { return tally_; }
  uint64_t executions() const { return executions_.load(); }
  uint64_t reloads() const { return reloads_; }

 private:
  static void Pause() {
    const timespec pause = {.tv_sec = 0, .tv_nsec = 1'000'000};
    nanosleep(&pause, nullptr);
  }

  // Calls, and `trouble` beside them until they are done; `to_the_end`: calls go on until it is.
  absl::Status Part(Killer& killer, bool to_the_end,
                    const std::function<absl::Status(const std::atomic<bool>& done)>& trouble) {
    std::atomic<bool> enough{!to_the_end}, done{false};
    // SUBTLE: it only has to give each number once. What is counted is read behind the callers'
    // end; `interrupted`, seen late, costs one more call.
    std::atomic<uint64_t> next{0};
    std::vector<std::thread> callers;
    for (unsigned i = 0; i < options_.threads; ++i) {
      callers.emplace_back([&] {
        while (!program_.interrupted->load(std::memory_order_relaxed)) {
          const uint64_t number = next.fetch_add(1, std::memory_order_relaxed);
          if (number >= calls_ && enough.load()) break;
          if (number % kExecuteEach == 0) {
            executions_.fetch_add(1, std::memory_order_relaxed);
            files_.Execute(number, unguarded_, killer, tally_);
          } else {
            files_.Open(number, unguarded_, killer, tally_);
          }
        }
      });
    }
    absl::Status status;
    std::thread troublemaker([&] {
      status = trouble(done);
      enough.store(true);
    });
    for (std::thread& caller : callers) caller.join();
    done.store(true);
    troublemaker.join();
    return status;
  }

  absl::Status ReloadOnce() {
    unguarded_.fetch_add(1);
    if (absl::Status status = EjectModule(); !status.ok()) return status;
    if (folder_.ServicePid() > 0) kill(folder_.ServicePid(), SIGKILL);
    folder_.Reap();
    absl::Status status =
        UnloadModule(MonotonicAfterNs(kUnloadsWithinNs), [](const ModuleHolder&) {});
    if (status.ok()) status = LoadModule(options_.module_file);
    if (status.ok()) status = Start();
    unguarded_.fetch_add(1);
    return status;
  }

  const Program& program_;
  const StormOptions& options_;
  const uint64_t calls_;  // of each part
  GuardedFolder& folder_;
  const StormFiles& files_;
  const ServiceOptions service_ = StormService(kDeadlineNs);
  StormFiles::Tally tally_;
  std::atomic<uint64_t> executions_{0};
  std::atomic<uint64_t> unguarded_{0};  // odd: from an eject until files are guarded again
  uint64_t reloads_ = 0;
};

void AddRecovery(Report& report, const std::string& of, const Killer& killer) {
  const Percentiles recovery = ComputePercentiles(killer.recoveries_ms());
  report.AddFigure(of + "_kills", static_cast<double>(killer.kills()), "", 1,
                   Report::Relation::kAtLeast);
  // No limits: most machines that have the module in this storm are emulated.
  report.AddInfo(of + "_recovery_p50", recovery.p50, "ms");
  report.AddInfo(of + "_recovery_p99", recovery.p99, "ms");
  report.AddInfo(of + "_recovery_max", recovery.max, "ms");
}

int StormModule(const Program& program, const StormOptions& options) {
  const uint64_t opens = options.calls != 0 ? options.calls : options.short_form ? 2'000 : 20'000;
  const uint64_t calls = opens * kExecuteEach / (kExecuteEach - 1);
  const uint64_t kills = options.kills != 0 ? options.kills : options.short_form ? 5 : 20;
  const uint64_t reloads = options.module_file.empty() ? 0 : options.short_form ? 2 : 5;
  const uint64_t every_ms = options.every_ms != 0 ? options.every_ms : 20;
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create(kStormService);
  if (!folder.ok()) return Complain(folder.status());
  const absl::StatusOr<StormFiles> files = StormFiles::Create((*folder)->path(), kDeadlineNs);
  if (!files.ok()) return Complain(files.status());
  const uint64_t started_ns = program.now_ns();
  ModuleStorm storm(program, options, calls, folder->get(), &*files);
  Killer hosts([&] { return (*folder)->HostPid(); }, every_ms * kNanosecondsPerMillisecond);
  Killer supervisors([&] { return (*folder)->ServicePid(); },
                     every_ms * kNanosecondsPerMillisecond);
  absl::Status status = storm.Start();
  if (status.ok()) status = storm.KillHosts(hosts);
  if (status.ok()) status = storm.KillSupervisors(supervisors, kills);
  if (!status.ok()) return Complain(status);
  // The channel went through every take-over, and counted.
  const absl::StatusOr<StatusFields> counted = (*folder)->Status();
  if (!counted.ok()) return Complain(counted.status());
  const bh_statistics& channel = counted->drivers[0].statistics;
  uint64_t by_policy = 0;
  for (const uint64_t count : channel.by_policy) by_policy += count;
  if (absl::Status reloaded = storm.Reload(reloads); !reloaded.ok()) return Complain(reloaded);
  if (absl::Status stopped = (*folder)->Stop().status(); !stopped.ok()) return Complain(stopped);

  const StormFiles::Tally& tally = storm.tally();
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  Report report("storm module");
  report.AddFigure("opens", number(tally.calls.load() - storm.executions()), "", number(2 * opens),
                   Report::Relation::kAtLeast);
  report.AddFigure("executions", number(storm.executions()), "", number(2 * (calls - opens)),
                   Report::Relation::kAtLeast);
  report.AddFigure("wrong", number(tally.wrong.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("errors", number(tally.errors.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("past_deadline", number(tally.late.load()), "", 0, Report::Relation::kAtMost);
  // A call of an open counts once, one of an execution twice: it is an open as well.
  report.AddFigure("asked", number(channel.calls), "", number(2 * calls),
                   Report::Relation::kAtLeast);
  report.AddFigure("by_policy", number(by_policy), "", 0, Report::Relation::kAtMost);
  report.AddInfo("reissued", number(channel.reissued), "");
  AddRecovery(report, "host", hosts);
  AddRecovery(report, "supervisor", supervisors);
  if (reloads != 0) {
    report.AddFigure("reloads", number(storm.reloads()), "", number(reloads),
                     Report::Relation::kAtLeast);
    report.AddInfo("unguarded", number(tally.unguarded.load()), "");
  }
  report.AddInfo("longest_call", number(tally.longest_ns.load()) / 1e6, "ms");
  report.AddInfo("time", number(program.now_ns() - started_ns) / 1e9, "s");
  return Conclude(report, options.json);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-module",
       .about =
           "20,000 opens and 5,000 executions through the kernel module for each: kills of the "
           "host every 20 ms, of the supervisor, reloads of the module (root)",
       .run = &bulkhead::StormModule,
       .reloads = true},
      argc, argv);
}
