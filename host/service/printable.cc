// SPDX-License-Identifier: Apache-2.0
#include "host/service/printable.h"

namespace bulkhead {

std::string Printable(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  for (const char letter : text) {
    const auto byte = static_cast<unsigned char>(letter);
    // 0xC2 begins the two bytes of a C1 control character in UTF-8.
    const bool second_of_c1 =
        byte >= 0x80 && byte < 0xa0 && !shown.empty() && shown.back() == '\xc2';
    if (second_of_c1) shown.pop_back();
    shown.push_back(byte < 0x20 || byte == 0x7f || second_of_c1 ? '?' : letter);
  }
  return shown;
}

}  // namespace bulkhead
