// SPDX-License-Identifier: Apache-2.0
//
// storm-service: `bulkhead run`, and what asks about it, for storms and the demo: they kill its
// hosts and shims more often than any budget of restarts allows.
#include <functional>

#include "CLI/CLI.hpp"
#include "host/cli/program.h"
#include "host/cli/run.h"
#include "tests/storm/storm.h"

int main(int argc, char** argv) {
  const bulkhead::Program program = bulkhead::StartProgram(bulkhead::Attachments());
  CLI::App app("bulkhead run, with drivers that start again at once however often they fall");
  app.require_subcommand(1);
  std::function<int()> run;
  bulkhead::AddRun(app, program, &run, {.limits = bulkhead::UnlimitedRestarts()});
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    return app.exit(wrong) == 0 ? bulkhead::kExitOk : bulkhead::kExitTrouble;
  }
  return run();
}
