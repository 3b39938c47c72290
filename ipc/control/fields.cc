// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/fields.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ipc/statistics.h"

namespace bulkhead {
namespace {

// As many as both have.
void ReadNumbers(const flatbuffers::Vector<uint64_t>& sent, absl::Span<uint64_t> numbers) {
  const size_t count = std::min<size_t>(sent.size(), numbers.size());
  // The verifier of FlatBuffers 2.0 does not look at the alignment of a vector's elements.
  for (size_t i = 0; i < count; ++i) {
    uint64_t element;
    std::memcpy(&element, sent.Data() + i * sizeof(element), sizeof(element));
    numbers[i] = flatbuffers::EndianScalar(element);
  }
}

}  // namespace

Offset<flatbuffers::String> Text(FlatBufferBuilder& builder, std::string_view text,
                                 size_t bytes_max) {
  return builder.CreateString(text.data(), std::min(text.size(), bytes_max));
}

Offset<flatbuffers::String> OptionalText(FlatBufferBuilder& builder, std::string_view text,
                                         size_t bytes_max) {
  return text.empty() ? Offset<flatbuffers::String>() : Text(builder, text, bytes_max);
}

std::string ReadText(const flatbuffers::String* text) {
  return text == nullptr ? std::string() : std::string(text->c_str(), text->size());
}

Offset<flatbuffers::Vector<uint64_t>> BuildStatistics(FlatBufferBuilder& builder,
                                                      const bh_statistics& statistics) {
  const absl::Span<const uint64_t> words = WordsOf(statistics);
  return builder.CreateVector(words.data(), words.size());
}

bh_statistics ReadStatistics(const flatbuffers::Vector<uint64_t>& words) {
  bh_statistics statistics = {};
  ReadNumbers(words, WordsOf(statistics));
  return statistics;
}

Offset<flatbuffers::Vector<uint64_t>> BuildSet(FlatBufferBuilder& builder,
                                               const bh_callback_set& set) {
  return builder.CreateVector(&set.bits[0], size_t{BH_CLASS_COUNT});
}

void ReadSet(const char* message, const flatbuffers::Vector<uint64_t>& sent, bh_callback_set* set,
             absl::Status* status) {
  if (sent.size() != BH_CLASS_COUNT) {
    status->Update(absl::InvalidArgumentError(absl::StrCat(message, " has a set of ", sent.size(),
                                                           " classes where ", int{BH_CLASS_COUNT},
                                                           " belong")));
    return;
  }
  ReadNumbers(sent, absl::MakeSpan(set->bits));
}

}  // namespace bulkhead
