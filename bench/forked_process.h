// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_FORKED_PROCESS_H_
#define BULKHEAD_BENCH_FORKED_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <utility>

#include "absl/status/statusor.h"

namespace bulkhead {

// A child of a benchmark: it runs one function until that ends or it is killed, and dies with its
// parent. Descriptors and shared memory are inherited.
class ForkedProcess {
 public:
  static absl::StatusOr<ForkedProcess> Start(const std::function<void()>& run);
  ForkedProcess(ForkedProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  ForkedProcess& operator=(ForkedProcess&&) = delete;
  ~ForkedProcess() { End(); }

  pid_t pid() const { return pid_; }
  void Kill() const;  // and does not wait for its end
  void End();         // kills it and waits for its end

 private:
  explicit ForkedProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_;  // -1: it has ended
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_FORKED_PROCESS_H_
