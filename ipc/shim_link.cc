// SPDX-License-Identifier: Apache-2.0
#include "ipc/shim_link.h"

namespace bulkhead {

absl::Status ShimLink::SetNotifications(ChannelId, uint64_t kinds) {
  if (kinds == 0) return absl::OkStatus();
  return absl::UnimplementedError("this attachment tells no notifications; the kernel module does");
}

}  // namespace bulkhead
