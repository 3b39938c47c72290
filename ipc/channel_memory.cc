// SPDX-License-Identifier: Apache-2.0
#include "ipc/channel_memory.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/abi/notification.h"

namespace bulkhead {

absl::StatusOr<ChannelMemory> ChannelMemory::Create(const bh_geometry& geometry,
                                                    uint32_t notify_entries) {
  if (!bh_geometry_valid(&geometry)) {
    return absl::InvalidArgumentError(
        absl::StrCat("channel of ", geometry.lanes, " lanes with ", geometry.slots_per_lane,
                     " slots, ", geometry.call_chunks, " call chunks and ", geometry.reply_chunks,
                     " reply chunks: lanes go from 1 to ", BH_LANES_MAX, ", slots from 1 to ",
                     BH_SLOTS_PER_LANE_MAX, ", chunks from 0 to ", BH_POOL_CHUNKS_MAX));
  }
  if (!bh_notification_entries_valid(notify_entries)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "notification ring of ", notify_entries, " entries: must be 0, or a power of ", "two from ",
        BH_NOTIFICATION_ENTRIES_MIN, " to ", BH_NOTIFICATION_ENTRIES_MAX));
  }
  auto call = SharedMemory::Create("bulkhead-call", bh_call_region_bytes(&geometry));
  if (!call.ok()) return call.status();
  auto reply = SharedMemory::Create("bulkhead-reply", bh_reply_region_bytes(&geometry));
  if (!reply.ok()) return reply.status();

  // Without the last seal a host could forbid its successors to map the reply region for writing.
  for (const absl::Status& status :
       {call->SealAgainstResize(), call->SealAgainstNewWriters(), call->SealForGood(),
        reply->SealAgainstResize(), reply->SealForGood()}) {
    if (!status.ok()) return status;
  }
  ChannelMemory memory;
  memory.geometry_ = geometry;
  memory.call_ = *std::move(call);
  memory.reply_ = *std::move(reply);
  if (notify_entries == 0) return memory;
  auto ring = SharedMemory::Create("bulkhead-notify", bh_notification_region_bytes(notify_entries));
  if (!ring.ok()) return ring.status();
  for (const absl::Status& status :
       {ring->SealAgainstResize(), ring->SealAgainstNewWriters(), ring->SealForGood()}) {
    if (!status.ok()) return status;
  }
  memory.notifications_ = *std::move(ring);
  return memory;
}

absl::StatusOr<ChannelDescriptors> ChannelMemory::Descriptors() const {
  auto call = call_.fd().Duplicate();
  if (!call.ok()) return call.status();
  auto reply = reply_.fd().Duplicate();
  if (!reply.ok()) return reply.status();
  ChannelDescriptors descriptors{*std::move(call), *std::move(reply), UniqueFd()};
  if (notifications_.data() == nullptr) return descriptors;
  auto ring = notifications_.fd().Duplicate();
  if (!ring.ok()) return ring.status();
  descriptors.notification_region = *std::move(ring);
  return descriptors;
}

}  // namespace bulkhead
