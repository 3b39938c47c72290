// SPDX-License-Identifier: Apache-2.0
//
// RunInChild: a part of a test in a process of its own, for a driver that is to crash or to hang:
// how it ended, what it wrote to standard error, and what the driver had logged.
#ifndef BULKHEAD_HOST_HARNESS_CHILD_PROCESS_H_
#define BULKHEAD_HOST_HARNESS_CHILD_PROCESS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace bulkhead {

struct ChildEnd {
  int signal = 0;      // 0: none
  int exit_code = -1;  // -1: a signal
  bool hung = false;   // it was killed at the end of its time
  std::string text;    // "signal 11 (Segmentation fault)"
  std::string last_lines;
  std::string error_output;  // its last kErrorBytesMax
};

inline constexpr size_t kChildErrorBytesMax = 64 * 1024;

// Forks. The child calls `body` with memory for its log, of LogRing::kBytes, and ends with what
// that returns. The child has the calling thread alone: `body` must not count on others.
absl::StatusOr<ChildEnd> RunInChild(const std::function<int(std::span<std::byte> log)>& body,
                                    uint64_t within_ns);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_HARNESS_CHILD_PROCESS_H_
