// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/stop_signal.h"

#include <sys/eventfd.h>

#include "ipc/check.h"

namespace bulkhead {

StopSignal::StopSignal() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  BULKHEAD_CHECK(event_.valid());
}

// SUBTLE: the first load may be old; the exchange corrects it.
void StopSignal::Raise(StopMode mode) {
  StopMode before = mode_.load(std::memory_order_relaxed);
  while (mode > before && !mode_.compare_exchange_weak(before, mode)) {
  }
  eventfd_write(event_.get(), 1);
}

}  // namespace bulkhead
