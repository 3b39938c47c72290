// SPDX-License-Identifier: Apache-2.0
#include "host/service/bounded_write.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "ipc/poll_until.h"

namespace bulkhead {

// A pipe that is ready takes PIPE_BUF bytes without waiting, unless another process fills it first.
WriteResult WriteUntil(int fd, std::string_view& text, uint64_t until_ns) {
  while (!text.empty()) {
    if (!PollUntil(fd, POLLOUT, until_ns)) return WriteResult::kNotYet;
    const ssize_t bytes = write(fd, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (bytes > 0) {
      text.remove_prefix(static_cast<size_t>(bytes));
    } else if (errno != EINTR && errno != EAGAIN) {
      return WriteResult::kBroken;
    }
  }
  return WriteResult::kDone;
}

}  // namespace bulkhead
