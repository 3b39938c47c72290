// SPDX-License-Identifier: Apache-2.0
//
// FanotifyGroup: the kernel's side of the attachment: a group for permission events and its marks.
// The supervisor creates and keeps it, so that the guard stays while shims are replaced. When the
// last descriptor of the group is closed, the kernel allows all waiting events.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_GROUP_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_GROUP_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/guard_spec.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// Whether a server of this file system can let an open of its files wait: so it is taken for each
// that is not known to be the kernel's own.
bool OpensMayWait(int directory);

class FanotifyGroup {
 public:
  // PermissionDenied without CAP_SYS_ADMIN, FailedPrecondition when the kernel can't do it; the
  // text says what to do.
  static absl::StatusOr<FanotifyGroup> Create();

  // One that a supervisor before this one has made.
  static FanotifyGroup Adopt(UniqueFd group) { return FanotifyGroup(std::move(group)); }

  int fd() const { return group_.get(); }

  // Marks the object that `kind` gives for `directory` (an open directory). Not kAuto.
  // `callbacks` as in GuardSpec.
  absl::Status Mark(int directory, MarkKind kind, const bh_callback_set& callbacks,
                    const std::string& name);
  // Whether the kernel has a mark of this group on that object.
  bool HasMark(int directory, MarkKind kind) const;
  // Removes every mark. Later opens cause no events.
  void RemoveMarks();

 private:
  explicit FanotifyGroup(UniqueFd group) : group_(std::move(group)) {}
  UniqueFd group_;
};

// The kind that kAuto means for this directory.
absl::StatusOr<MarkKind> ChooseMarkKind(int directory, const std::string& name);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_GROUP_H_
