// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_CONTENT_COPY_H_
#define BULKHEAD_HOST_SUPERVISOR_CONTENT_COPY_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

struct CopyLimits {
  size_t files;
  uint64_t bytes;
};

// The group that may read the copies, beside their owner. 0: none; what is in them keeps the
// modes of what was copied, and the folder itself is closed to others.
using ContentReader = gid_t;

// A content folder, for reading. One below `inside` (empty: none) may not lead out of that by a
// symbolic link or a name: who may write there must not choose what a host gets to read. NotFound:
// there is no such folder; InvalidArgument: it leads out; else the error of open(2).
absl::StatusOr<UniqueFd> OpenContent(const std::string& content, const std::string& inside);

// Whether two copies hold the same files, by name and bytes. REQUIRES: no other process changes
// them.
bool SameContent(const std::string& a, const std::string& b);

// Copies the regular files of a folder and of those below it into the folder `to`. A symbolic link
// to one of these files becomes a copy of it; another is an InvalidArgument: what it was to stand
// for would be missed without a word. Pipes and the rest are left out. Each name is looked at once,
// by opening it, and what is counted is what was copied: others may change the folder meanwhile.
// `name` is for errors: ResourceExhausted beyond the limits or 64 folders deep, else those of the
// file system. What was copied by then stays in `to`.
absl::Status CopyContent(UniqueFd from, const std::string& name, const std::string& to,
                         const CopyLimits& limits, ContentReader reader = 0);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_CONTENT_COPY_H_
