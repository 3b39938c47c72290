// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_IPC_POLL_UNTIL_H_
#define BULKHEAD_IPC_POLL_UNTIL_H_

#include <cstdint>

namespace bulkhead {

// Waits for `events` (poll(2)) of `fd`, or for the peer's end, until until_ns (CLOCK_MONOTONIC; 0:
// only looks; kForeverNs: no limit). False when neither came. Signals do not end it.
bool PollUntil(int fd, short events, uint64_t until_ns);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_POLL_UNTIL_H_
