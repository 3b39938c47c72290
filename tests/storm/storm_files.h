// SPDX-License-Identifier: Apache-2.0
//
// Files with a known verdict, for the storms on real ones: the driver "null deny-odd" denies those
// with an odd inode number. And a tally of what their opens returned.
//
// Threads: Open() and Execute() from any.
#ifndef BULKHEAD_TESTS_STORM_STORM_FILES_H_
#define BULKHEAD_TESTS_STORM_STORM_FILES_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/storm/killer.h"

namespace bulkhead {

class StormFiles {
 public:
  // Makes them. Calls on them have `deadline_ns`. `denied_content`: every fourth file has it, and
  // is denied for it.
  static absl::StatusOr<StormFiles> Create(const std::string& folder, uint64_t deadline_ns,
                                           std::string_view denied_content = {});

  struct Tally {
    std::atomic<uint64_t> calls{0};
    std::atomic<uint64_t> wrong{0};   // allowed what should be denied, or the other way round
    std::atomic<uint64_t> errors{0};  // any other errno
    std::atomic<uint64_t> late{0};
    std::atomic<uint64_t> unguarded{0};  // allowed what is denied, and that was to be expected
    std::atomic<uint64_t> longest_ns{0};
  };
  // Of the number-th file. `unguarded`: asked before and after; when it was even then and still is
  // the same number, the files were guarded all the time.
  void Open(uint64_t number, const std::atomic<uint64_t>& unguarded, Killer& killer,
            Tally& tally) const;
  void Execute(uint64_t number, const std::atomic<uint64_t>& unguarded, Killer& killer,
               Tally& tally) const;

 private:
  struct File {
    std::string path;
    bool denied = false;
  };
  // `access` returns 0 or an errno.
  void Judge(const File& file, const std::function<int(const File&)>& access,
             const std::atomic<uint64_t>& unguarded, Killer& killer, Tally& tally) const;

  std::vector<File> files_;
  uint64_t deadline_ns_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_STORM_STORM_FILES_H_
