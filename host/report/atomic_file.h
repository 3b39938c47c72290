// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_
#define BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_

#include <absl/status/status.h>

#include <string>
#include <string_view>

namespace bulkhead {

// Gives the file at `path` the content `bytes`, all of it or none: readers see the old file or the
// new one. It is written under a temporary name in the same folder, flushed to the disk, then
// renamed. On an error the temporary file is removed. A symbolic link stays: its target is
// replaced. The new file has the permission to read and write of the old one, if that is this
// user's, else 0644.
//
// PermissionDenied for what another user may have put there as a trap (TrapAt).
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes);

// Why nothing is written at this path: a symbolic link of another user's, or, in a folder in which
// others may make files, anything of another user's (a pipe without a reader, a file of theirs that
// would become ours). Empty: nothing speaks against it.
std::string TrapAt(const std::string& path);

// True for a path that is not a regular file (a pipe, a terminal) or to which this process prints:
// it is not replaced; the bytes follow those already written.
bool IsWrittenInPlace(const std::string& path);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_REPORT_ATOMIC_FILE_H_
