// SPDX-License-Identifier: Apache-2.0
#include "ipc/unique_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"

namespace bulkhead {

void UniqueFd::reset(int fd) {
  const int old = std::exchange(fd_, fd);
  if (old < 0) return;
  const int saved_errno = errno;
  // No retry after EINTR: Linux has released the number already, and another thread may own it.
  close(old);
  errno = saved_errno;
}

absl::StatusOr<UniqueFd> UniqueFd::Duplicate() const {
  if (!valid()) return absl::FailedPreconditionError("there is no descriptor to duplicate");
  UniqueFd copy(fcntl(fd_, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return absl::ErrnoToStatus(errno, "cannot duplicate a descriptor");
  return copy;
}

}  // namespace bulkhead
