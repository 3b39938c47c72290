// SPDX-License-Identifier: Apache-2.0
#include "ipc/channel_memory.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace bulkhead {

absl::StatusOr<ChannelMemory> ChannelMemory::Create(const bh_geometry& geometry) {
  if (!bh_geometry_valid(&geometry)) {
    return absl::InvalidArgumentError(
        absl::StrCat("channel of ", geometry.lanes, " lanes with ", geometry.slots_per_lane,
                     " slots, ", geometry.call_chunks, " call chunks and ", geometry.reply_chunks,
                     " reply chunks: lanes go from 1 to ", BH_LANES_MAX, ", slots from 1 to ",
                     BH_SLOTS_PER_LANE_MAX, ", chunks from 0 to ", BH_POOL_CHUNKS_MAX));
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
  return memory;
}

absl::StatusOr<ChannelDescriptors> ChannelMemory::Descriptors() const {
  auto call = call_.fd().Duplicate();
  if (!call.ok()) return call.status();
  auto reply = reply_.fd().Duplicate();
  if (!reply.ok()) return reply.status();
  return ChannelDescriptors{*std::move(call), *std::move(reply)};
}

}  // namespace bulkhead
