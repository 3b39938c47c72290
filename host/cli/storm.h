// SPDX-License-Identifier: Apache-2.0
//
// bulkhead storm: calls as fast as they come, while what answers them is killed again and again. It
// says how many calls were lost, answered twice or wrongly, or past their deadline, and how long
// recovery took.
#ifndef BULKHEAD_HOST_CLI_STORM_H_
#define BULKHEAD_HOST_CLI_STORM_H_

#include <functional>

#include "CLI/CLI.hpp"
#include "host/cli/killer.h"
#include "host/cli/program.h"

namespace bulkhead {

void AddStorm(CLI::App& app, const Program& program, std::function<int()>* run);

struct StormOptions {
  uint64_t calls = 0;  // 0: the storm's full size
  uint64_t kills = 0;
  uint64_t every_ms = 0;
  unsigned threads = 4;
  bool short_form = false;
  std::string module_file;  // of StormModule; empty: the module stays loaded
  std::string json;
};

// Each runs one storm; the exit code.
int StormEmbedded(const Program& program, const StormOptions& options);
int StormFanotify(const Program& program, const StormOptions& options);
int StormModule(const Program& program, const StormOptions& options);
int StormShim(const Program& program, const StormOptions& options);

// Adds the figures of recovery, with their limits.
void AddRecoveryFigures(Report& report, const Killer& killer);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_STORM_H_
