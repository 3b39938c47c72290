// SPDX-License-Identifier: Apache-2.0
//
// bulkhead: the command line. Clock, chance and signals come in here, and nowhere else.
#include <signal.h>
#include <sys/random.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <system_error>

#include "CLI/CLI.hpp"
#include "host/cli/demo.h"
#include "host/cli/doctor.h"
#include "host/cli/eject.h"
#include "host/cli/program.h"
#include "host/cli/run.h"
#include "host/cli/scan.h"
#include "host/cli/storm.h"
#include "ipc/monotonic.h"

namespace {

std::atomic<bool> interrupted{false};

void OnSignal(int) { interrupted.store(true); }

// The first Ctrl-C ends the command in order; the second ends it at once.
void WatchSignals() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

uint64_t Chance() {
  uint64_t number = 0;
  (void)!getrandom(&number, sizeof(number), 0);
  return number;
}

}  // namespace

int main(int argc, char** argv) {
  WatchSignals();
  std::error_code error;
  bulkhead::Program program;
  program.folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
  program.now_ns = bulkhead::MonotonicNowNs;
  program.chance = Chance;
  program.interrupted = &interrupted;

  CLI::App app("Runs third-party drivers in user-mode processes that may crash");
  app.require_subcommand(1);
  app.set_version_flag("--version", "bulkhead 0.1.0");
  std::function<int()> run;
  bulkhead::AddRun(app, program, &run);
  bulkhead::AddScan(app, program, &run);
  bulkhead::AddDoctor(app, program, &run);
  bulkhead::AddEject(app, program, &run);
  bulkhead::AddDemo(app, program, &run);
  bulkhead::AddStorm(app, program, &run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    const int code = app.exit(wrong);
    return code == 0 ? 0 : bulkhead::kExitTrouble;
  }
  return run();
}
