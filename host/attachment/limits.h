// SPDX-License-Identifier: Apache-2.0
//
// Limits: what an attachment can't hold on this machine, whatever its guards do. While one applies
// and the operator has not accepted it, protection is degraded.
#ifndef BULKHEAD_HOST_ATTACHMENT_LIMITS_H_
#define BULKHEAD_HOST_ATTACHMENT_LIMITS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "host/attachment/guard_spec.h"
#include "host/attachment/protection.h"
#include "ipc/monotonic.h"
#include "ipc/mutex.h"

namespace bulkhead {

struct AttachmentLimit {
  const char* name;    // for --accept
  const char* text;    // a clause: what may happen
  const char* remedy;  // a clause: what keeps it from happening
  // On this machine, now: tries for real, leaves nothing, takes a second at most.
  bool (*applies)();
  std::optional<MarkKind> of_marks = std::nullopt;  // of this kind, and no other
};

// Which limits apply. Thread-safe.
class Limits {
 public:
  // LookAgain() tries them again after so long.
  static constexpr uint64_t kAgainNs = 10'000'000'000;

  Limits(absl::Span<const AttachmentLimit> limits, std::set<std::string> accepted,
         std::function<uint64_t()> now_ns = MonotonicNowNs)
      : limits_(limits), now_ns_(std::move(now_ns)), accepted_(std::move(accepted)) {}
  // Tries which limits apply, if that is due: may take a second for each. Not with a lock held.
  void LookAgain();
  // Others are accepted from now on; what is no more is tried at the next LookAgain().
  void Accept(std::set<std::string> accepted);
  // Adds the limits that were found to apply to a guard by marks of this kind, unless it has no
  // protection to lose.
  void Degrade(GuardProtection& guard, MarkKind mark) const;

 private:
  const absl::Span<const AttachmentLimit> limits_;
  const std::function<uint64_t()> now_ns_;
  mutable Mutex mutex_;
  std::set<std::string> accepted_ ABSL_GUARDED_BY(mutex_);
  std::vector<const AttachmentLimit*> applying_ ABSL_GUARDED_BY(mutex_);
  uint64_t again_ns_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Whether an ordinary user can mount an overlay over folders of others (Linux 5.11 and user
// namespaces): opens through it are accesses to another file system, on which there is no mark.
bool UsersCanMountOverlays();

inline constexpr AttachmentLimit kOverlaysLimit = {
    .name = "overlays",
    .text =
        "a user can mount an overlay over a guarded folder, in a user namespace, and open its "
        "files through that unasked",
    .remedy = "set the sysctl user.max_user_namespaces to 0, or keep users from overlays otherwise",
    .applies = UsersCanMountOverlays};

inline constexpr AttachmentLimit kMountCopiesLimit = {
    .name = "mount-copies",
    .text =
        "a process in another mount namespace (a user's own, a container, a service with "
        "PrivateTmp) has a copy of the guarded mount, and opens files through that unasked",
    .remedy = "guard with --mark directory or --mark filesystem",
    .applies = [] { return true; },
    .of_marks = MarkKind::kMount};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_LIMITS_H_
