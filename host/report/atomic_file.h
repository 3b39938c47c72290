// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_
#define BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_

#include <absl/status/status.h>

#include <string>
#include <string_view>

namespace bulkhead {

// Gives the file at `path` the content `bytes`, all of it or none: readers see the old file or the
// new one. It is written under a name of its own in the same folder, flushed to the disk, then
// renamed. On an error nothing of it is left. A symbolic link stays one: what it leads to is
// written.
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes);

// Not so what is no regular file (a pipe, a terminal) and what this process prints to: there the
// bytes follow what was written before.
bool IsWrittenInPlace(const std::string& path);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_
