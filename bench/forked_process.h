// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_FORKED_PROCESS_H_
#define BULKHEAD_BENCH_FORKED_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/bounded_wait.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// A child of a benchmark: it runs one function until that ends or it is killed, and dies with its
// parent. Descriptors and shared memory are inherited.
class ForkedProcess {
 public:
  static absl::StatusOr<ForkedProcess> Start(const std::function<void()>& run);
  ForkedProcess(ForkedProcess&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}
  ForkedProcess& operator=(ForkedProcess&&) = delete;
  ~ForkedProcess() { End(); }

  pid_t pid() const { return pid_; }
  void Kill() const;  // and does not wait for its end
  // Kills it and waits for its end. The program ends when that does not come within the bound.
  void End();

  // Waits until it has ended by itself. OK: with exit code 0. DeadlineExceeded: it did not end, and
  // was killed. `what` names it: "a caller".
  absl::Status Join(const char* what, uint64_t bound_ns = kWaitBoundNs);
  // Its wait status once it has ended, and does not wait.
  std::optional<int> TakeEnd();

 private:
  ForkedProcess(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_;  // -1: it has ended
  UniqueFd pidfd_;
};

// Waits for the end of all children of this process. What has not ended within the bound is killed
// by its id and named: DeadlineExceeded.
// REQUIRES: no ForkedProcess lives.
absl::Status ReapChildren(const char* what, uint64_t bound_ns = kWaitBoundNs);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_FORKED_PROCESS_H_
