// SPDX-License-Identifier: Apache-2.0
#include "tests/storm/file_storm.h"

namespace bulkhead {
namespace {

int StormShim(const Program& program, const StormOptions& options) {
  const uint64_t opens = options.short_form ? 20'000 : 400'000;
  const uint64_t kills = options.short_form ? 20 : 100;
  return StormOnFiles(program, options,
                      {.name = "shim",
                       .opens = options.calls != 0 ? options.calls : opens,
                       .kills_min = options.kills != 0 ? options.kills : kills,
                       .kills_max = options.kills != 0 ? options.kills : kills,
                       .every_ms = options.every_ms != 0 ? options.every_ms : 50,
                       .kill_shim = true});
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-shim",
       .about = "400,000 opens of real files, and 100 kills of the shim's worker (root)",
       .run = &bulkhead::StormShim},
      argc, argv);
}
