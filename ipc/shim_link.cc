// SPDX-License-Identifier: Apache-2.0
#include "ipc/shim_link.h"

namespace bulkhead {

Policy::Policy() {
  for (auto& by_reason : rules) {
    by_reason.fill(PolicyRule{Action::kHold, Action::kAllow});
    // A call that has crashed its budget of hosts is an attack or a corrupt file: nobody waits for
    // it.
    by_reason[static_cast<size_t>(NoAnswer::kPoison)] = PolicyRule{Action::kDeny, Action::kDeny};
  }
}

absl::Status ShimLink::SetNotifications(ChannelId, uint64_t kinds) {
  if (kinds == 0) return absl::OkStatus();
  return absl::UnimplementedError("this attachment tells no notifications; the kernel module does");
}

}  // namespace bulkhead
