// SPDX-License-Identifier: Apache-2.0
//
// ContentStore: private, numbered copies of the content folders that an operator puts in force, so
// that editing a folder changes nothing that serves, and the last-known-good is still there when it
// is needed.
//
// A copy holds the regular files of the folder and of folders below it; symbolic links are not
// followed. It is bounded (kFilesMax, kBytesMax), made under another name and renamed when it is
// whole. Everything is removed when the store ends.
#ifndef BULKHEAD_HOST_SUPERVISOR_CONTENT_STORE_H_
#define BULKHEAD_HOST_SUPERVISOR_CONTENT_STORE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bulkhead {

class ContentStore {
 public:
  static constexpr size_t kFilesMax = 10'000;
  static constexpr uint64_t kBytesMax = 1ull << 30;

  // `folder` is made, and removed with everything in it by the destructor.
  explicit ContentStore(std::string folder) : folder_(std::move(folder)) {}
  ~ContentStore();
  ContentStore(const ContentStore&) = delete;
  ContentStore& operator=(const ContentStore&) = delete;

  // The version that the copy got, counted from 1. NotFound, PermissionDenied, ResourceExhausted
  // (too large, disk full) say what to do; nothing is left of a copy that failed.
  absl::StatusOr<uint64_t> Add(const std::string& from);
  // Folder of a version. 0 has none: "".
  std::string Path(uint64_t version) const;
  // Removes the versions before this one.
  void DropBefore(uint64_t version);

 private:
  const std::string folder_;
  uint64_t newest_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_CONTENT_STORE_H_
