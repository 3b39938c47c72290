// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_OUTCOME_H_
#define BULKHEAD_HOST_SUPERVISOR_OUTCOME_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "ipc/mutex.h"

namespace bulkhead {

// Outcome: of what one thread has another do. Shared by both, since the first may stop waiting.
//
// Threads: any. Set once.
class Outcome {
 public:
  void Set(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      const MutexLock lock(mutex_);
      status_ = std::move(status);
    }
    changed_.NotifyAll();
  }
  // Nothing: there was none by then (CLOCK_MONOTONIC).
  std::optional<absl::Status> Await(uint64_t until_ns) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    while (!status_.has_value()) {
      if (!changed_.WaitUntil(mutex_, until_ns)) break;
    }
    return status_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_OUTCOME_H_
