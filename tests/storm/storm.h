// SPDX-License-Identifier: Apache-2.0
//
// What the storms share. A storm makes calls as fast as they come, while what answers them is
// killed again and again. Its report says how many calls were lost, answered twice or wrongly, or
// past their deadline, and how long recovery took.
#ifndef BULKHEAD_TESTS_STORM_STORM_H_
#define BULKHEAD_TESTS_STORM_STORM_H_

#include <cstdint>
#include <functional>
#include <string>

#include "host/cli/program.h"
#include "host/cli/service_options.h"
#include "host/report/report.h"
#include "tests/storm/killer.h"

namespace bulkhead {

struct StormOptions {
  uint64_t calls = 0;  // 0: the storm's full size
  uint64_t kills = 0;
  uint64_t every_ms = 0;
  uint64_t seconds = 0;
  unsigned threads = 0;
  bool short_form = false;
  bool unlimited = false;   // times are shown, and have no limits
  std::string module_file;  // of storm-module; empty: the module stays loaded
  std::string attach = "auto";
  std::string json;
};

// What a storm program is: reads its options and runs it. The exit code.
struct StormProgram {
  const char* name;
  const char* about;
  int (*run)(const Program&, const StormOptions&);
  const char* every = "kills";  // what --every-ms is between
  bool reloads = false;         // takes --reload
  bool attaches = false;        // takes --attach
  bool lasts = false;           // takes --seconds
  unsigned threads = 4;         // without --threads
};
int StormMain(const StormProgram& storm, int argc, char** argv);

// The driver "null deny-odd" with no cache, so that each call asks the host, and without a limit to
// its restarts.
ServiceOptions StormService(uint64_t deadline_ns);
// A driver starts again at once, however often it falls: storms kill its host on purpose.
LifecycleLimits UnlimitedRestarts();
// The program that guards files for storms and the demo: `bulkhead run` with UnlimitedRestarts().
inline constexpr char kStormService[] = "storm-service";

// Adds the figures of recovery, with their limits.
void AddRecoveryFigures(Report& report, const Killer& killer);

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_STORM_STORM_H_
