// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/oom_kills.h"

#include <fstream>
#include <optional>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

// Of a line "oom_kill 3".
std::optional<uint64_t> CountIn(const std::string& path) {
  constexpr std::string_view kName = "oom_kill ";
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    uint64_t count = 0;
    if (line.starts_with(kName) && absl::SimpleAtoi(line.substr(kName.size()), &count)) {
      return count;
    }
  }
  return std::nullopt;
}

// Its path in the hierarchy of version 2, or nothing.
std::optional<std::string> OwnGroup(const std::string& proc) {
  constexpr std::string_view kVersion2 = "0::";
  std::ifstream file(absl::StrCat(proc, "/self/cgroup"));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kVersion2)) return line.substr(kVersion2.size());
  }
  return std::nullopt;
}

}  // namespace

std::optional<uint64_t> OomKills(const std::string& proc, const std::string& cgroups) {
  if (const std::optional<std::string> group = OwnGroup(proc)) {
    const auto count = CountIn(absl::StrCat(cgroups, *group, "/memory.events"));
    if (count.has_value()) return count;
  }
  return CountIn(absl::StrCat(proc, "/vmstat"));
}

}  // namespace bulkhead
