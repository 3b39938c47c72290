// SPDX-License-Identifier: Apache-2.0
#include "bench/bench_main.h"

#include <algorithm>
#include <iostream>
#include <string_view>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/cli/program.h"

namespace bulkhead {
namespace {

int Skip(const absl::Status& why) {
  std::cout << "SKIP: " << why.message() << "\n";
  return kExitSkipped;
}

int Fail(const std::string& name, const absl::Status& why) {
  std::cerr << name << ": " << why.message() << "\n";
  return kExitTrouble;
}

int Run(Benchmark& benchmark, const std::string& name, const BenchRun& run,
        const std::string& json) {
  if (absl::Status able = benchmark.Probe(); !able.ok()) return Skip(able);
  Report report(absl::StrCat("bench ", benchmark.name()));
  const absl::Status status = benchmark.Measure(run, report);
  // What it says after a signal is of the signal's making.
  if (run.interrupted()) {
    std::cerr << name << ": interrupted; nothing was reported\n";
    return kExitInterrupted;
  }
  if (absl::IsPermissionDenied(status)) return Skip(status);
  if (!status.ok()) return Fail(name, status);
  report.PrintTable(std::cout);
  std::cout.flush();
  if (!json.empty()) {
    if (absl::Status written = report.WriteJson(json); !written.ok()) return Fail(name, written);
  }
  return report.ExitCode();
}

}  // namespace

int BenchMain(Benchmark& benchmark, int argc, char** argv) {
  const Program program = StartProgram(Attachments());
  const std::string name = absl::StrCat("bench-", benchmark.name());
  BenchRun run = {.program = &program,
                  .command = absl::StrCat("./dev bench ", benchmark.name()),
                  .interrupt = program.interrupted};
  for (int i = 1; i < argc; ++i) absl::StrAppend(&run.command, " ", argv[i]);
  const bool help =
      std::any_of(argv, argv + argc, [](std::string_view word) { return word == "--help"; });
  if (!help) benchmark.TakeFlags(&argc, argv);

  CLI::App app(benchmark.about(), name);
  const BenchCount count = benchmark.count();
  run.count = count.usual;
  bool unlimited = false;
  std::string json;
  app.add_option(count.option, run.count, count.about)
      ->check(CLI::Range(1, count.max))
      ->capture_default_str();
  app.add_flag("--short", run.short_form,
               absl::StrCat("The form for the test suite: ", count.option, " ", count.short_form));
  app.add_flag("--unlimited", unlimited,
               "Judge no time, only whether everything works: for a busy machine");
  app.add_option("--json", json, "Write the report to this file")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  benchmark.AddOptions(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    return app.exit(wrong) == 0 ? kExitOk : kExitTrouble;
  }
  run.limited = !unlimited;
  if (run.short_form) run.count = count.short_form;
  return Run(benchmark, name, run, json);
}

}  // namespace bulkhead
