// SPDX-License-Identifier: Apache-2.0
//
// StopSignal: orders every thread of a worker to end, and how.
#ifndef BULKHEAD_SHIM_FANOTIFY_STOP_SIGNAL_H_
#define BULKHEAD_SHIM_FANOTIFY_STOP_SIGNAL_H_

#include <atomic>

#include "ipc/unique_fd.h"

namespace bulkhead {

enum class StopMode : int {
  kNone = 0,
  kDrain = 1,  // take no more events; let the events in hand end normally
  kNow = 2,    // take no more events; end the events in hand by policy
};

class StopSignal {
 public:
  StopSignal();

  // A later, stronger mode overrides; a weaker one changes nothing.
  void Raise(StopMode mode);
  StopMode mode() const { return mode_.load(std::memory_order_acquire); }
  // Readable from the first Raise() on.
  int fd() const { return event_.get(); }

 private:
  std::atomic<StopMode> mode_{StopMode::kNone};
  UniqueFd event_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_STOP_SIGNAL_H_
