// SPDX-License-Identifier: Apache-2.0
#include "host/cli/storm.h"

#include <memory>

#include "host/report/percentiles.h"

namespace bulkhead {

void AddRecoveryFigures(Report& report, const Killer& killer) {
  const Percentiles recovery = ComputePercentiles(killer.recoveries_ms());
  report.AddFigure("recoveries_measured", static_cast<double>(recovery.count), "", 1,
                   Report::Relation::kAtLeast);
  report.AddFigure("recovery_p50", recovery.p50, "ms", 10, Report::Relation::kAtMost);
  report.AddFigure("recovery_p99", recovery.p99, "ms", 50, Report::Relation::kAtMost);
  report.AddInfo("recovery_max", recovery.max, "ms");
}

void AddStorm(CLI::App& app, const Program& program, std::function<int()>* run) {
  CLI::App* command = app.add_subcommand(
      "storm", "Calls as fast as they come, while what answers them is killed again and again");
  command->require_subcommand(1);
  const auto add = [&](const char* name, const char* about,
                       int (*storm)(const Program&, const StormOptions&), bool reloads = false) {
    auto options = std::make_shared<StormOptions>();
    CLI::App* kind = command->add_subcommand(name, about);
    kind->add_option("--calls", options->calls, "Calls in all; 0: the full size");
    kind->add_option("--kills", options->kills, "Kills in all; 0: the full number");
    kind->add_option("--every-ms", options->every_ms, "Milliseconds between kills");
    kind->add_option("--threads", options->threads, "Callers")->check(CLI::Range(1, 64));
    kind->add_flag("--short", options->short_form, "The form for the test suite");
    if (reloads) {
      kind->add_option("--reload", options->module_file,
                       "The module's file: also eject, unload and load it in the middle")
          ->check(CLI::ExistingFile)
          ->type_name("FILE");
    }
    kind->add_option("--json", options->json, "Write the report to this file")
        ->check(ReportPathTrouble)
        ->type_name("FILE");
    kind->callback([&program, options, storm, run] {
      *run = [&program, options, storm] { return storm(program, *options); };
    });
  };
  add("embedded", "10,000,000 calls through the embedded shim, 2,000 kills of the host",
      &StormEmbedded);
  add("fanotify", "400,000 opens of real files, the host killed every 50 ms (root)",
      &StormFanotify);
  add("module",
      "20,000 opens and 5,000 executions through the kernel module for each: kills of the host "
      "every "
      "20 ms, of the supervisor, reloads of the module (root)",
      &StormModule, /*reloads=*/true);
  add("shim", "The same as fanotify, with 100 kills of the shim's worker instead (root)",
      &StormShim);
}

}  // namespace bulkhead
