// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SERVICE_TEMPORARY_FOLDER_H_
#define BULKHEAD_HOST_SERVICE_TEMPORARY_FOLDER_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace bulkhead {

// A private folder that is removed with everything in it.
class TemporaryFolder {
 public:
  // Below $TMPDIR, or /tmp.
  static absl::StatusOr<TemporaryFolder> Create();
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::move(other.path_)) {
    other.path_.clear();
  }
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_TEMPORARY_FOLDER_H_
