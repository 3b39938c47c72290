// SPDX-License-Identifier: Apache-2.0
//
// UniqueFd: a file descriptor with one owner.
#ifndef BULKHEAD_IPC_UNIQUE_FD_H_
#define BULKHEAD_IPC_UNIQUE_FD_H_

#include <utility>

#include "absl/status/statusor.h"

namespace bulkhead {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // The caller owns it from here on.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  // Closes the owned descriptor. Keeps errno, so that the caller can report it after a clean-up.
  void reset(int fd = -1);

  // A second descriptor of the same open file, close-on-exec. FailedPrecondition when there is
  // none.
  absl::StatusOr<UniqueFd> Duplicate() const;

 private:
  int fd_ = -1;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_UNIQUE_FD_H_
