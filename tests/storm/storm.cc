// SPDX-License-Identifier: Apache-2.0
#include "tests/storm/storm.h"

#include <algorithm>
#include <limits>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/report/percentiles.h"

namespace bulkhead {

namespace {

constexpr uint64_t kSecondsMax = 31 * 24 * 3600;

}  // namespace

void AddRecoveryFigures(Report& report, const Killer& killer) {
  const Percentiles recovery = ComputePercentiles(killer.recoveries_ms());
  report.AddFigure("recoveries_measured", static_cast<double>(recovery.count), "", 1,
                   Report::Relation::kAtLeast);
  report.AddFigure("recovery_p50", recovery.p50, "ms", 10, Report::Relation::kAtMost);
  report.AddFigure("recovery_p99", recovery.p99, "ms", 50, Report::Relation::kAtMost);
  report.AddInfo("recovery_max", recovery.max, "ms");
}

int StormMain(const StormProgram& storm, int argc, char** argv) {
  const Program program = StartProgram(Attachments());
  StormOptions options;
  options.threads = storm.threads;
  CLI::App app(storm.about, storm.name);
  app.add_option("--calls", options.calls, "Calls in all; 0: the full size");
  app.add_option("--kills", options.kills, "Kills in all; 0: the full number");
  app.add_option("--every-ms", options.every_ms,
                 absl::StrCat("Milliseconds between ", storm.every));
  app.add_option("--threads", options.threads, "Callers")
      ->check(CLI::Range(1u, std::max(64u, storm.threads)))
      ->capture_default_str();
  app.add_flag("--short", options.short_form, "The form for the test suite");
  if (storm.reloads) {
    app.add_option("--reload", options.module_file,
                   "The module's file: also eject, unload and load it in the middle")
        ->check(CLI::ExistingFile)
        ->type_name("FILE");
  }
  if (storm.attaches) {
    app.add_option("--attach", options.attach, "Attachment of the guard, as in 'bulkhead run'");
    app.add_flag("--unlimited", options.unlimited,
                 "Only show times: for a machine that is busy with other things");
  }
  if (storm.lasts) {
    app.add_option("--seconds", options.seconds, "How long; 0: the full size")
        ->check(CLI::Range(uint64_t{0}, kSecondsMax));
  }
  app.add_option("--json", options.json, "Write the report to this file")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    return app.exit(wrong) == 0 ? kExitOk : kExitTrouble;
  }
  return storm.run(program, options);
}

ServiceOptions StormService(uint64_t deadline_ns) {
  ServiceOptions options;
  options.drivers = {"null"};
  options.each.options = "deny-odd";
  options.deadline_ns = deadline_ns;
  options.each.cache_entries = 0;
  options.limits = UnlimitedRestarts();
  return options;
}

LifecycleLimits UnlimitedRestarts() {
  LifecycleLimits limits;
  limits.service.falls_max = std::numeric_limits<uint32_t>::max();
  limits.service.window_ns = 1;  // nothing to remember
  limits.service.first_delay_ns = 0;
  limits.start = limits.service;
  limits.outside.first_delay_ns = 0;  // its kills
  return limits;
}

}  // namespace bulkhead
