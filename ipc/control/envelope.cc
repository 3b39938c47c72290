// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/envelope.h"

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

// A message has a root, one message in it and at most lists of tables in that: of events and of
// guards so many as fit into a message, hundreds of short ones.
constexpr flatbuffers::uoffset_t kDepthMax = 8;
constexpr flatbuffers::uoffset_t kTablesMax = 2048;

}  // namespace

absl::Status VerifyEnvelope(absl::Span<const uint8_t> bytes) {
  if (bytes.size() > kControlBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message of ", bytes.size(), " bytes: more than ", kControlBytesMax));
  }
  // The identifier stands behind the root offset; a shorter buffer has none.
  if (bytes.size() < sizeof(flatbuffers::uoffset_t) + flatbuffers::kFileIdentifierLength) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message of ", bytes.size(), " bytes: too short to be one"));
  }
  if (!wire::EnvelopeBufferHasIdentifier(bytes.data())) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a control message: its identifier is not ", wire::EnvelopeIdentifier()));
  }
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kDepthMax, kTablesMax);
  if (!wire::VerifyEnvelopeBuffer(verifier)) {
    return absl::InvalidArgumentError("control message is truncated or corrupt");
  }
  const wire::Envelope* envelope = wire::GetEnvelope(bytes.data());
  if (envelope->version() != kControlVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message of version ", envelope->version(), ", this release speaks ",
                     kControlVersion, ": install all parts of one release"));
  }
  // The verifier lets types pass that it does not know.
  const auto type = envelope->message_type();
  if (type == wire::Message::NONE || type > wire::Message::MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message of unknown type ", static_cast<int>(type)));
  }
  return absl::OkStatus();
}

}  // namespace bulkhead
