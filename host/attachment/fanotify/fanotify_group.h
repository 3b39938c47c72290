// SPDX-License-Identifier: Apache-2.0
//
// FanotifyGroup: the kernel's side of the attachment: a group for permission events and its marks.
// The supervisor makes it and keeps it; shims come and go, the guard stays. When the last
// descriptor of the group is closed, the kernel allows whatever still waits.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_GROUP_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_GROUP_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// What is marked for a directory; see docs/decisions/fanotify-marks.md.
enum class MarkKind {
  kAuto,        // kFilesystem when the directory is a whole file system's root, else kDirectory
  kMount,       // everything on the mount that the directory is on, through this mount
  kFilesystem,  // everything on the file system that the directory is on
  kDirectory,   // the files in the directory and in every directory below it
};
const char* MarkKindName(MarkKind kind);

struct GuardedEvents {
  bool open = true;
  bool exec = true;
  bool access = false;
};

class FanotifyGroup {
 public:
  // PermissionDenied without CAP_SYS_ADMIN, FailedPrecondition when the kernel can't do it; the
  // text says what would help.
  static absl::StatusOr<FanotifyGroup> Create();

  int fd() const { return group_.get(); }

  // Marks what `directory` (an open directory) stands for. Not kAuto.
  absl::Status Mark(int directory, MarkKind kind, const GuardedEvents& events,
                    const std::string& name);
  // Takes every mark away. Whoever opens afterwards is not asked about.
  void RemoveMarks();

 private:
  explicit FanotifyGroup(UniqueFd group) : group_(std::move(group)) {}
  UniqueFd group_;
};

// Opens a directory that an operator named: NotFound, PermissionDenied, or InvalidArgument when it
// is no directory.
absl::StatusOr<UniqueFd> OpenGuardedDirectory(const std::string& path);

// What kAuto means for this directory.
absl::StatusOr<MarkKind> ChooseMarkKind(int directory, const std::string& name);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_GROUP_H_
