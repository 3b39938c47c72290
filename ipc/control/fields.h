// SPDX-License-Identifier: Apache-2.0
//
// Parts of control messages that more than one protocol has.
#ifndef BULKHEAD_IPC_CONTROL_FIELDS_H_
#define BULKHEAD_IPC_CONTROL_FIELDS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "ipc/abi/sets.h"
#include "ipc/abi/statistics.h"
#include "ipc/check.h"
#include "ipc/control/envelope.h"

namespace bulkhead {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

// Longer texts are cut.
inline constexpr size_t kStatusTextBytesMax = 1024;
Offset<flatbuffers::String> Text(FlatBufferBuilder& builder, std::string_view text,
                                 size_t bytes_max = kControlTextBytesMax);
// An empty text is left out of the message.
Offset<flatbuffers::String> OptionalText(FlatBufferBuilder& builder, std::string_view text,
                                         size_t bytes_max = kControlTextBytesMax);
std::string ReadText(const flatbuffers::String* text);

Offset<flatbuffers::Vector<uint64_t>> BuildStatistics(FlatBufferBuilder& builder,
                                                      const bh_statistics& statistics);
// A counter that the sender does not have is 0.
bh_statistics ReadStatistics(const flatbuffers::Vector<uint64_t>& words);

Offset<flatbuffers::Vector<uint64_t>> BuildSet(FlatBufferBuilder& builder,
                                               const bh_callback_set& set);
// `status` keeps the first error.
void ReadSet(const char* message, const flatbuffers::Vector<uint64_t>& sent, bh_callback_set* set,
             absl::Status* status);

template <typename T>
ControlBuffer Finish(FlatBufferBuilder& builder, Offset<T> message) {
  wire::FinishEnvelopeBuffer(
      builder, wire::CreateEnvelope(builder, kControlVersion, wire::MessageTraits<T>::enum_value,
                                    message.Union()));
  BULKHEAD_CHECK(builder.GetSize() <= kControlBytesMax);
  return builder.Release();
}

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CONTROL_FIELDS_H_
