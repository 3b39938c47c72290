// SPDX-License-Identifier: Apache-2.0
//
// Which files a host may open by name: a driver is handed the files that it is asked about, and
// needs to open little else. Landlock does it (landlock(7), since Linux 5.13).
#ifndef BULKHEAD_HOST_PROCESS_FILE_ACCESS_H_
#define BULKHEAD_HOST_PROCESS_FILE_ACCESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace bulkhead {

// From here on this process may open, for reading only, what lies in and below `readable` (absolute
// paths; one that is not there is passed over), the system's libraries, /proc/self and a few files
// of the C library's. Descriptors that it has or is sent are not concerned.
// Unimplemented: the kernel has no Landlock; nothing has changed. For the calling thread, before it
// has started others.
// REQUIRES: no_new_privs.
absl::Status LimitFiles(absl::Span<const std::string> readable);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_FILE_ACCESS_H_
