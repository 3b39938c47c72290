// SPDX-License-Identifier: Apache-2.0
//
// The transports that a host knows: a row for each way to reach a shim. Attachments whose shim is
// in user mode share the first; see docs/adding-an-attachment.md.
#ifndef BULKHEAD_HOST_ATTACHMENT_TRANSPORTS_H_
#define BULKHEAD_HOST_ATTACHMENT_TRANSPORTS_H_

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/host_transport.h"

namespace bulkhead {

absl::Span<const HostTransportKind* const> HostTransports();

// The transport that a call region's descriptor belongs to; InvalidArgument when it is none's.
absl::StatusOr<const HostTransportKind*> TransportOf(int call_region);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_TRANSPORTS_H_
