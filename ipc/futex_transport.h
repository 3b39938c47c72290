// SPDX-License-Identifier: Apache-2.0
//
// The transport to a shim in user mode: sealed memory, futexes in the reply region, and a socket
// for the files of calls.
#ifndef BULKHEAD_IPC_FUTEX_TRANSPORT_H_
#define BULKHEAD_IPC_FUTEX_TRANSPORT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "ipc/host_transport.h"

namespace bulkhead {

// Recognizes any memfd.
extern const HostTransportKind kFutexTransport;

// InvalidArgument when a region lacks a seal, has another size than the header gives, or the header
// is none of a channel.
absl::StatusOr<MappedChannel> MapSealedChannel(HostDescriptors descriptors, uint32_t generation);

// Any size: a ring's size is learned from its memory, once that is sealed.
absl::StatusOr<SharedMemory> MapSealedNotifications(UniqueFd region);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_FUTEX_TRANSPORT_H_
