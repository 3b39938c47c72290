// SPDX-License-Identifier: Apache-2.0
#include "tests/storm/process_census.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

struct Stat {
  char state = 0;
  pid_t parent = -1;
};

Stat StatOf(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string line;
  std::getline(file, line);
  Stat stat;
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return stat;
  std::istringstream(line.substr(name_end + 1)) >> stat.state >> stat.parent;
  return stat;
}

}  // namespace

absl::StatusOr<MemoryUse> MemoryOf(pid_t pid) {
  const std::string path = absl::StrCat("/proc/", pid, "/smaps_rollup");
  std::ifstream file(path);
  MemoryUse use;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    double kib = 0;
    words >> name >> kib;
    if (name == "Rss:") use.resident_kib = kib;
    if (name == "Anonymous:") use.anonymous_kib = kib;
  }
  if (use.anonymous_kib == 0) return absl::NotFoundError(absl::StrCat("can't read ", path));
  return use;
}

DescriptorUse DescriptorsOf(pid_t pid) {
  DescriptorUse use;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(absl::StrCat("/proc/", pid, "/fd"), error)) {
    std::error_code gone;
    const std::string target = fs::read_symlink(entry.path(), gone).string();
    if (gone) continue;
    ++use.all;
    if (target.starts_with("/memfd:")) ++use.memfds;
  }
  return use;
}

pid_t ParentOf(pid_t pid) { return StatOf(std::to_string(pid)).parent; }

size_t ZombiesOf(const std::set<pid_t>& parents) {
  size_t zombies = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const Stat stat = StatOf(name);
    if (stat.state == 'Z' && parents.count(stat.parent) != 0) ++zombies;
  }
  return zombies;
}

size_t HostCgroupsOf(const std::set<pid_t>& services) {
  constexpr std::string_view kPrefix = "bulkhead-host-";
  size_t groups = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator entry("/sys/fs/cgroup",
                                              fs::directory_options::skip_permission_denied, error);
       !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    const std::string number =
        name.substr(kPrefix.size(), name.find('-', kPrefix.size()) - kPrefix.size());
    pid_t service = -1;
    if (absl::SimpleAtoi(number, &service) && services.count(service) != 0) ++groups;
  }
  return groups;
}

size_t Mounts() {
  std::ifstream file("/proc/self/mountinfo");
  size_t mounts = 0;
  for (std::string line; std::getline(file, line);) ++mounts;
  return mounts;
}

size_t EntriesIn(const std::string& folder) {
  std::error_code error;
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder, error), {}));
}

}  // namespace bulkhead
