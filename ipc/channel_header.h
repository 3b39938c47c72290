// SPDX-License-Identifier: Apache-2.0
//
// CheckChannelHeader: the checks that a channel's header must pass before the host maps the
// channel.
//
// The header is a private copy: its fields can't change between this check and their use. The
// regions' real sizes are not known here; the code that maps the regions compares them with the
// geometry.
#ifndef BULKHEAD_IPC_CHANNEL_HEADER_H_
#define BULKHEAD_IPC_CHANNEL_HEADER_H_

#include "absl/status/statusor.h"
#include "ipc/abi/channel.h"

namespace bulkhead {

// InvalidArgument names the wrong field. Otherwise bh_geometry_valid() holds for the geometry, and
// the header's region sizes equal those of the geometry.
absl::StatusOr<bh_geometry> CheckChannelHeader(const bh_channel_header& header);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CHANNEL_HEADER_H_
