// SPDX-License-Identifier: Apache-2.0
//
// WalkDirectories: a directory and every directory below it on the same mount, by descriptors.
//
// No name is resolved but the last one, in a directory that is open: what others rename or replace
// by a symbolic link meanwhile leads the walk nowhere else. Any depth, also beyond PATH_MAX, with a
// bounded number of descriptors.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_DIRECTORY_WALK_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_DIRECTORY_WALK_H_

#include <functional>
#include <string>

#include "absl/status/status.h"

namespace bulkhead {

struct DirectoryWalk {
  // Called for each directory before it is listed, so that what is made in it later is seen by a
  // watch that is set here. An error keeps the walk from what is below, and goes to `failed`; a
  // ResourceExhausted one ends the walk.
  std::function<absl::Status(int directory)> visit;
  // What could not be opened, listed or visited: where, from the root of the walk, cut.
  std::function<void(const std::string& where, const absl::Status& status)> failed;
};

// The root's own error is returned, and is not given to `failed`. Aborted: directories so deep that
// their parents can't be kept open were moved again and again meanwhile.
absl::Status WalkDirectories(int root, const DirectoryWalk& walk);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_DIRECTORY_WALK_H_
