// SPDX-License-Identifier: Apache-2.0
#include "ipc/channel_header.h"

#include "absl/strings/str_cat.h"

namespace bulkhead {

absl::StatusOr<bh_geometry> CheckChannelHeader(const bh_channel_header& header) {
  if (header.magic != BH_CHANNEL_MAGIC) {
    return absl::InvalidArgumentError("the call region is not a channel: wrong magic number");
  }
  if (header.abi_version != BH_ABI_VERSION) {
    return absl::InvalidArgumentError(
        absl::StrCat("the channel has ABI version ", header.abi_version, ", this host has ",
                     BH_ABI_VERSION, ": install shim and host of one release"));
  }
  const bh_geometry geometry = {header.lanes, header.slots_per_lane, header.call_chunks,
                                header.reply_chunks};
  if (!bh_geometry_valid(&geometry)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the channel's header has an impossible geometry: ", geometry.lanes,
                     " lanes, ", geometry.slots_per_lane, " slots, ", geometry.call_chunks, " and ",
                     geometry.reply_chunks, " chunks"));
  }
  if (header.call_bytes != bh_call_region_bytes(&geometry) ||
      header.reply_bytes != bh_reply_region_bytes(&geometry)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the channel's header contradicts itself: its regions have ",
                     header.call_bytes, " and ", header.reply_bytes, " bytes, its geometry needs ",
                     bh_call_region_bytes(&geometry), " and ", bh_reply_region_bytes(&geometry)));
  }
  // The size of a ring is in the ring's own header; NotificationReader checks it.
  if (header.notify_offset != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the channel's header has notify_offset ", header.notify_offset,
                     ", must be 0: the notification ring is a region of its own"));
  }
  return geometry;
}

}  // namespace bulkhead
