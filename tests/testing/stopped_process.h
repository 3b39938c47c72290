// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_TESTS_TESTING_STOPPED_PROCESS_H_
#define BULKHEAD_TESTS_TESTING_STOPPED_PROCESS_H_

#include <sys/types.h>

#include <cstdint>

namespace bulkhead {

// Sends SIGSTOP, and waits until each thread has stopped: they do one by one. False when it has not
// by until_ns (CLOCK_MONOTONIC), or is gone. Any thread.
bool StopProcess(pid_t pid, uint64_t until_ns);

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_STOPPED_PROCESS_H_
