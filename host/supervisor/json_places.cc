// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/json_places.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

constexpr size_t kDepthMax = 3;

struct Frame {
  std::string path;
  bool is_object;
  bool awaits_key;
  std::string key;
  size_t index = 0;

  std::string ChildPath() const {
    if (!is_object) return absl::StrCat(path, "[", index, "]");
    return path.empty() ? key : absl::StrCat(path, ".", key);
  }
};

// Behind the string that begins at `at`.
size_t EndOfString(std::string_view text, size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return std::min(at + 1, text.size());
}

std::string Decoded(std::string_view token) {
  const auto json = nlohmann::json::parse(token.begin(), token.end(), nullptr, false);
  return json.is_string() ? json.get<std::string>() : std::string(token);
}

}  // namespace

TextPlace PlaceIn(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  const auto is_character = [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xc0) != 0x80;  // no later byte of one in UTF-8
  };
  return {.line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n')),
          .column = 1 + static_cast<size_t>(
                            std::count_if(before.begin() + static_cast<std::ptrdiff_t>(line_begin),
                                          before.end(), is_character))};
}

// One pass, without recursion: what is valid JSON needs no grammar here.
JsonPlaces::JsonPlaces(std::string_view text) : text_(text) {
  std::vector<Frame> frames;
  const auto note_value = [&](size_t at) {
    if (!frames.empty() && frames.size() <= kDepthMax) values_[frames.back().ChildPath()] = at;
  };
  for (size_t at = 0; at < text.size();) {
    const char letter = text[at];
    if (letter == '"') {
      const size_t end = EndOfString(text, at);
      if (!frames.empty() && frames.back().awaits_key) {
        Frame& frame = frames.back();
        frame.awaits_key = false;
        frame.key = Decoded(text.substr(at, end - at));
        if (frames.size() <= kDepthMax && !keys_.insert_or_assign(frame.ChildPath(), at).second) {
          duplicates_.push_back(frame.ChildPath());
        }
      } else {
        note_value(at);
      }
      at = end;
    } else if (letter == '{' || letter == '[') {
      note_value(at);
      std::string path =
          frames.empty() || frames.size() > kDepthMax ? "" : frames.back().ChildPath();
      frames.push_back({.path = std::move(path),
                        .is_object = letter == '{',
                        .awaits_key = letter == '{',
                        .key = ""});
      ++at;
    } else if (letter == '}' || letter == ']') {
      if (!frames.empty()) frames.pop_back();
      ++at;
    } else if (letter == ',') {
      if (!frames.empty()) {
        frames.back().awaits_key = frames.back().is_object;
        ++frames.back().index;
      }
      ++at;
    } else if (letter == ':' || letter == ' ' || letter == '\t' || letter == '\n' ||
               letter == '\r') {
      ++at;
    } else {
      note_value(at);
      at = std::min(text.find_first_of(",]} \t\n\r", at), text.size());
    }
  }
}

TextPlace JsonPlaces::Value(const std::string& path) const {
  const auto found = values_.find(path);
  return found == values_.end() ? TextPlace() : PlaceIn(text_, found->second);
}

TextPlace JsonPlaces::Key(const std::string& path) const {
  const auto found = keys_.find(path);
  return found == keys_.end() ? TextPlace() : PlaceIn(text_, found->second);
}

}  // namespace bulkhead
