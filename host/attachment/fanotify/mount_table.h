// SPDX-License-Identifier: Apache-2.0
//
// The mounts that this process sees, from /proc/self/mountinfo.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_MOUNT_TABLE_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_MOUNT_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace bulkhead {

struct MountEntry {
  uint64_t id = 0;
  std::string root;   // the part of its file system that it shows; "/": all of it
  std::string point;  // where it is mounted
  std::string type;   // of the file system
};
absl::StatusOr<std::vector<MountEntry>> ReadMounts();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_MOUNT_TABLE_H_
