// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_TESTS_TESTING_SEND_SIGNAL_H_
#define BULKHEAD_TESTS_TESTING_SEND_SIGNAL_H_

#include <gtest/gtest.h>
#include <signal.h>

#include <cerrno>

namespace bulkhead {

// kill() of one process. A test that did not find its process has -1 or 0 instead, which kill()
// takes for all processes, or for those of its group: here the test fails, and nothing is sent.
inline int SendSignal(pid_t process, int signal) {
  if (process > 1) return kill(process, signal);
  ADD_FAILURE() << "there is no process " << process << " to send signal " << signal << " to";
  errno = ESRCH;
  return -1;
}

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_SEND_SIGNAL_H_
