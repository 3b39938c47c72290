// SPDX-License-Identifier: Apache-2.0
#include "tests/storm/file_storm.h"

namespace bulkhead {
namespace {

int StormFanotify(const Program& program, const StormOptions& options) {
  const uint64_t opens = options.short_form ? 40'000 : 400'000;
  return StormOnFiles(program, options,
                      {.name = "fanotify",
                       .opens = options.calls != 0 ? options.calls : opens,
                       .kills_min = options.kills,
                       .kills_max = options.kills != 0 ? options.kills : UINT64_MAX,
                       .every_ms = options.every_ms != 0 ? options.every_ms : 50,
                       .kill_shim = false});
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-fanotify",
       .about = "400,000 opens of real files, the host killed every 50 ms (root)",
       .run = &bulkhead::StormFanotify},
      argc, argv);
}
