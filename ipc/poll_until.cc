// SPDX-License-Identifier: Apache-2.0
#include "ipc/poll_until.h"

#include <poll.h>

#include <cerrno>
#include <ctime>

#include "ipc/check.h"
#include "ipc/monotonic.h"

namespace bulkhead {

bool PollUntil(int fd, short events, uint64_t until_ns) {
  for (;;) {
    const uint64_t now_ns = MonotonicNowNs();
    const uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    timespec timeout;
    timeout.tv_sec = static_cast<time_t>(left_ns / kNanosecondsPerSecond);
    timeout.tv_nsec = static_cast<long>(left_ns % kNanosecondsPerSecond);
    pollfd entry = {fd, events, 0};
    const int ready = ppoll(&entry, 1, until_ns == kForeverNs ? nullptr : &timeout, nullptr);
    if (ready > 0) return true;
    if (ready == 0 && MonotonicNowNs() >= until_ns) return false;
    BULKHEAD_CHECK(ready == 0 || errno == EINTR);
  }
}

}  // namespace bulkhead
