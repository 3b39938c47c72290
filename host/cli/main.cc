// SPDX-License-Identifier: Apache-2.0
//
// bulkhead: the command line.
#include <functional>

#include "CLI/CLI.hpp"
#include "host/cli/doctor.h"
#include "host/cli/eject.h"
#include "host/cli/program.h"
#include "host/cli/run.h"
#include "host/cli/scan.h"

int main(int argc, char** argv) {
  const bulkhead::Program program = bulkhead::StartProgram();
  CLI::App app("Runs third-party drivers in user-mode processes that may crash");
  app.require_subcommand(1);
  app.set_version_flag("--version", "bulkhead 0.1.0");
  std::function<int()> run;
  bulkhead::AddRun(app, program, &run);
  bulkhead::AddScan(app, program, &run);
  bulkhead::AddDoctor(app, program, &run);
  bulkhead::AddEject(app, program, &run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    const int code = app.exit(wrong);
    return code == 0 ? 0 : bulkhead::kExitTrouble;
  }
  return run();
}
