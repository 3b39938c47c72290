// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_
#define BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_

#include <absl/status/status.h>

#include <string>
#include <string_view>

namespace bulkhead {

// Gives the file at `path` the content `bytes`, all of it or none: readers see the old file or the
// new one. It is written under a name of its own in the same folder, flushed to the disk, then
// renamed. On an error nothing of it is left. What is no regular file is written in place.
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_
