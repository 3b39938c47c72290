// SPDX-License-Identifier: Apache-2.0
//
// Control messages: any message of a peer is refused, or can be read to the last field.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ipc/control/fields.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/control/shim_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace bulkhead;
  // Aligned as a socket's messages are. The empty input stands for a message that is too long.
  const std::vector<uint8_t> aligned = bytes != 0 ? std::vector<uint8_t>(data, data + bytes)
                                                  : std::vector<uint8_t>(kControlBytesMax + 1);
  if (!VerifyEnvelope(aligned).ok()) return 0;
  const wire::Envelope* envelope = wire::GetEnvelope(aligned.data());
  if (const auto* attach = envelope->message_as_Attach()) (void)ReadAttach(*attach);
  if (const auto* started = envelope->message_as_Started()) (void)ReadStarted(*started);
  if (const auto* sandboxed = envelope->message_as_Sandboxed()) (void)ReadSandboxed(*sandboxed);
  if (const auto* begin = envelope->message_as_BeginGeneration()) (void)ReadBeginGeneration(*begin);
  if (const auto* policy = envelope->message_as_SetPolicy()) (void)ReadPolicy(*policy);
  if (const auto* denial = envelope->message_as_ShimDenial()) (void)ReadShimDenial(*denial);
  if (const auto* status = envelope->message_as_Status()) (void)ReadStatus(*status);
  if (const auto* events = envelope->message_as_Events()) (void)ReadEvents(*events);
  if (const auto* shutdown = envelope->message_as_Shutdown()) (void)ReadShutdown(*shutdown);
  if (const auto* result = envelope->message_as_Result()) {
    if (result->statistics() != nullptr) (void)ReadStatistics(*result->statistics());
    (void)ReadInHand(*result);
  }
  return 0;
}
