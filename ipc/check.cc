// SPDX-License-Identifier: Apache-2.0
#include "ipc/check.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace bulkhead {

void CheckFailed(const char* file, int line, const char* condition) {
  char text[512];
  const int length =
      std::snprintf(text, sizeof(text), "%s:%d: check failed: %s\n", file, line, condition);
  if (length > 0) {
    const size_t bytes =
        static_cast<size_t>(length) < sizeof(text) ? static_cast<size_t>(length) : sizeof(text) - 1;
    // Nothing can be done about an error here, nor about a pipe that is full.
    pollfd output = {.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (poll(&output, 1, 0) == 1) (void)!write(STDERR_FILENO, text, bytes);
  }
  std::abort();
}

}  // namespace bulkhead
