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

// What the dynamic linker, the C and C++ libraries and the allocator read.
absl::Span<const char* const> SystemPaths();

// From here on this process may open, for reading only, what lies in and below `readable` (absolute
// paths; one that is not there is passed over) and the system's paths; and, for writing, making,
// renaming and removing files and folders, too, what lies in and below `writable`. Descriptors that
// it has or is sent are not concerned.
// Unimplemented: the kernel has no Landlock; nothing has changed. For the calling thread, before it
// has started others.
// REQUIRES: no_new_privs.
absl::Status LimitFiles(absl::Span<const std::string> readable,
                        absl::Span<const std::string> writable);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_FILE_ACCESS_H_
