// SPDX-License-Identifier: Apache-2.0
#include "bench/watchdog.h"

#include "ipc/abi/atomics.h"
#include "ipc/futex.h"
#include "ipc/monotonic.h"

namespace bulkhead {

Watchdog::Watchdog(uint64_t bound_ns) : bound_ns_(bound_ns) {
  thread_.Start([this] { Run(); });
}

Watchdog::~Watchdog() {
  bh_store_release(&stop_, 1u);
  FutexWake(&stop_, FutexScope::kPrivate, 1);
  thread_.Join("the end of the watchdog");
}

Watchdog::Section Watchdog::Watch(const char* what) {
  what_.store(what);
  until_ns_.store(MonotonicAfterNs(bound_ns_));
  return Section(*this);
}

void Watchdog::Run() {
  while (bh_load_acquire(&stop_) == 0) {
    const uint64_t until_ns = until_ns_.load();
    if (until_ns != 0 && MonotonicNowNs() > until_ns) {
      const char* const what = what_.load();
      // Read again: the section may have ended, and another have begun, before what_ was read.
      if (until_ns_.load() == until_ns) WaitFailed(what);
    }
    FutexWait(&stop_, 0, FutexScope::kPrivate, MonotonicAfterNs(bound_ns_ / 4));
  }
}

}  // namespace bulkhead
