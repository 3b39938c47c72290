// SPDX-License-Identifier: Apache-2.0
//
// GuardedVolume: a file system for tests to guard: a tmpfs in a mount namespace of the test's own.
// A faulty guard there blocks no other process on the machine, and the tmpfs ends with the process.
#ifndef BULKHEAD_TESTS_TESTING_GUARDED_VOLUME_FIXTURE_H_
#define BULKHEAD_TESTS_TESTING_GUARDED_VOLUME_FIXTURE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bulkhead {

class GuardedVolume {
 public:
  // To be called by a process's only thread, once. PermissionDenied without CAP_SYS_ADMIN.
  static absl::StatusOr<GuardedVolume> Mount();
  GuardedVolume(GuardedVolume&& other) noexcept;
  GuardedVolume& operator=(GuardedVolume&&) = delete;
  ~GuardedVolume();

  const std::string& path() const { return path_; }
  // The path of a file with this content; creates the file and its directories if necessary.
  std::string File(const std::string& name, const std::string& content, bool executable = false);

 private:
  explicit GuardedVolume(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_GUARDED_VOLUME_FIXTURE_H_
