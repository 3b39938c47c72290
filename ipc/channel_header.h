// SPDX-License-Identifier: Apache-2.0
//
// CheckChannelHeader: what a host believes about a channel before it maps it.
//
// The header is a private copy: its fields can't change between this check and their use. The
// regions' real sizes are not known here; whoever maps them holds them against the geometry.
#ifndef BULKHEAD_IPC_CHANNEL_HEADER_H_
#define BULKHEAD_IPC_CHANNEL_HEADER_H_

#include "absl/status/statusor.h"
#include "ipc/abi/channel.h"

namespace bulkhead {

// InvalidArgument says which field is wrong. Otherwise bh_geometry_valid() holds for the geometry,
// and the header's region sizes are those that it gives.
absl::StatusOr<bh_geometry> CheckChannelHeader(const bh_channel_header& header);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CHANNEL_HEADER_H_
