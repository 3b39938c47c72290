// SPDX-License-Identifier: Apache-2.0
//
// The storms on real files: four threads open them, the driver denies those with an odd inode
// number, and the host, or the shim's worker, is killed meanwhile.
#ifndef BULKHEAD_TESTS_STORM_FILE_STORM_H_
#define BULKHEAD_TESTS_STORM_FILE_STORM_H_

#include <cstdint>
#include <string>

#include "tests/storm/storm.h"

namespace bulkhead {

struct FileStorm {
  std::string name;
  uint64_t opens = 0;      // of all threads
  uint64_t kills_min = 0;  // the storm goes on until so many are done
  uint64_t kills_max = 0;
  uint64_t every_ms = 0;
  bool kill_shim = false;
};

int StormOnFiles(const Program& program, const StormOptions& options, const FileStorm& plan);

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_STORM_FILE_STORM_H_
