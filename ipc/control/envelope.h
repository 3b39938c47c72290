// SPDX-License-Identifier: Apache-2.0
//
// The envelope of every control message, and how bytes from a peer are checked. What each message
// means, and which descriptors go with it, stands in ipc/schema/control.fbs; the functions that
// build and read them in host_protocol.h, shim_protocol.h and operator_protocol.h.
#ifndef BULKHEAD_IPC_CONTROL_ENVELOPE_H_
#define BULKHEAD_IPC_CONTROL_ENVELOPE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "ipc/schema/control_generated.h"

namespace bulkhead {

inline constexpr uint32_t kControlVersion = 1;
inline constexpr size_t kControlBytesMax = 96 * 1024;

// A finished message, ready for ControlSocket::Send.
using ControlBuffer = flatbuffers::DetachedBuffer;

// Checks bytes from a peer: size, identifier, structure, version, and that the message is one that
// we know. Only then may wire::GetEnvelope() be used on them. InvalidArgument says what is wrong.
absl::Status VerifyEnvelope(absl::Span<const uint8_t> bytes);

// Text is cut to a limit, so that a message always fits a datagram.
inline constexpr size_t kControlTextBytesMax = 4096;

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CONTROL_ENVELOPE_H_
