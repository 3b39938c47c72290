// SPDX-License-Identifier: Apache-2.0
//
// JsonPlaces: where in a JSON text a key or a value stands, for errors that name a line.
#ifndef BULKHEAD_HOST_SUPERVISOR_JSON_PLACES_H_
#define BULKHEAD_HOST_SUPERVISOR_JSON_PLACES_H_

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead {

struct TextPlace {
  size_t line = 0;    // from 1; 0: nowhere
  size_t column = 0;  // from 1, in characters
};

// Of the byte at `offset`.
TextPlace PlaceIn(std::string_view text, size_t offset);

class JsonPlaces {
 public:
  // REQUIRES: `text` is valid JSON, and outlives this.
  explicit JsonPlaces(std::string_view text);

  // "callbacks", "callbacks[1]", "content.required": down to the third level.
  TextPlace Value(const std::string& path) const;
  TextPlace Key(const std::string& path) const;
  // Paths of keys that one object has more than once.
  const std::vector<std::string>& duplicates() const { return duplicates_; }

 private:
  const std::string_view text_;
  std::map<std::string, size_t> values_;  // offsets
  std::map<std::string, size_t> keys_;    // of the last one of a name
  std::vector<std::string> duplicates_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_JSON_PLACES_H_
