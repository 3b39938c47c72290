// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/nearest_name.h"

#include <algorithm>
#include <cctype>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

constexpr size_t kLettersMax = 64;

char Plain(char letter) {
  return letter == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
}

// Letters to insert, to remove, to change or to swap with their neighbour.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const bool same = Plain(a[i]) == Plain(b[j]);
      row[j + 1] = std::min({last[j + 1] + 1, row[j] + 1, last[j] + (same ? 0 : 1)});
      if (i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j]) {
        row[j + 1] = std::min(row[j + 1], before[j - 1] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string NearestName(std::string_view misspelt, const std::vector<std::string>& names) {
  if (misspelt.size() > kLettersMax) return "";
  std::string nearest;
  size_t least = std::max<size_t>(misspelt.size() / 3, 1) + 1;
  for (const std::string& name : names) {
    const size_t distance = Distance(misspelt, name);
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  }
  return nearest;
}

std::string DidYouMean(std::string_view misspelt, const std::vector<std::string>& names) {
  const std::string nearest = NearestName(misspelt, names);
  return nearest.empty() ? "" : absl::StrCat("; did you mean \"", nearest, "\"?");
}

}  // namespace bulkhead
