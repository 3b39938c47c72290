// SPDX-License-Identifier: Apache-2.0
#include "ipc/shim_link.h"

namespace bulkhead {

absl::Status ShimLink::CanNotify(const bh_callback_set& kinds) const {
  if (bh_set_empty(&kinds) != 0) return absl::OkStatus();
  return absl::UnimplementedError(
      "this attachment has no source for notifications; the kernel module has");
}

}  // namespace bulkhead
