// SPDX-License-Identifier: Apache-2.0
//
// A place that is guarded, and what is there.
#ifndef BULKHEAD_HOST_ATTACHMENT_PLACE_H_
#define BULKHEAD_HOST_ATTACHMENT_PLACE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// An object, and the mount through which it was opened. Subvolumes of btrfs have device numbers of
// their own and the mount of the file system.
struct DirectoryId {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t mount = 0;

  friend bool operator==(const DirectoryId&, const DirectoryId&) = default;
};
absl::StatusOr<DirectoryId> IdOf(int directory);

// The path to where a path with symbolic links leads now. NotFound, PermissionDenied, or
// InvalidArgument when that is no directory.
absl::StatusOr<std::string> ResolvePlace(const std::string& path);

// The directory at a place, through no symbolic link: NotFound says in a sentence what is there.
absl::StatusOr<UniqueFd> OpenPlace(const std::string& place);

// Of what is there, with the same errors.
absl::StatusOr<DirectoryId> IdAt(const std::string& place);

// Opens a directory that an operator named, with the same errors as ResolvePlace.
absl::StatusOr<UniqueFd> OpenGuardedDirectory(const std::string& path);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_PLACE_H_
