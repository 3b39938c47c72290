// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/host_cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace bulkhead {
namespace {

constexpr char kPrefix[] = "bulkhead-host-";  // then the service's process id, and a number
// What a host has beside what its manifest counts: the libraries' and the content's pages, the
// kernel's memory for its threads and descriptors.
constexpr uint64_t kOwnBytes = 64 << 20;
constexpr uint64_t kTasksMax =
    1024 + 64;  // its limit of threads (host/process/sandbox.cc), and room
constexpr uint64_t kCpuPeriodUs = 100'000;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::Status WriteTo(const std::string& path, absl::string_view text) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() || write(file.get(), text.data(), text.size()) < 0) {
    return absl::ErrnoToStatus(errno, path);
  }
  return absl::OkStatus();
}

struct Mount {
  std::string root, point;
  std::vector<std::string> options;  // of the file system: controllers of version 1
  bool version2 = false;
};

// proc(5): 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
std::vector<Mount> Mounts(const std::string& proc) {
  std::vector<Mount> mounts;
  for (const absl::string_view line :
       absl::StrSplit(ReadAll(proc + "/self/mountinfo"), '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> halves =
        absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    const std::vector<std::string> left = absl::StrSplit(halves.first, ' ');
    const std::vector<std::string> right = absl::StrSplit(halves.second, ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (right[0] != "cgroup" && right[0] != "cgroup2") continue;
    mounts.push_back({.root = left[3],
                      .point = left[4],
                      .options = absl::StrSplit(right[2], ','),
                      .version2 = right[0] == "cgroup2"});
  }
  return mounts;
}

// Where the group of this path is mounted; empty: nowhere.
std::string FolderOf(const Mount& mount, const std::string& path) {
  if (mount.root == "/") return path == "/" ? mount.point : mount.point + path;
  if (path == mount.root) return mount.point;
  if (!absl::StartsWith(path, mount.root + "/")) return "";
  return mount.point + path.substr(mount.root.size());
}

bool HasWord(const std::string& text, absl::string_view word) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(text, absl::ByAnyChar(" \n,"), absl::SkipEmpty());
  return std::count(words.begin(), words.end(), word) != 0;
}

pid_t ParentOf(pid_t pid) {
  const std::string stat = ReadAll(absl::StrCat("/proc/", pid, "/stat"));
  const std::vector<std::string> fields = absl::StrSplit(
      stat.substr(std::min(stat.size(), stat.rfind(')') + 1)), ' ', absl::SkipEmpty());
  pid_t parent = 0;
  return fields.size() > 1 && absl::SimpleAtoi(fields[1], &parent) ? parent : 0;
}

// What holds our descriptors is nobody's child.
bool IsStore(pid_t pid) {
  // Cut to 15 letters. What executes it can only be read with rights that a service need not have.
  return ReadAll(absl::StrCat("/proc/", pid, "/comm")) == "bulkhead-fdstor\n";
}

// This process, or one that it has started, or such a one.
bool IsOurs(pid_t pid) {
  if (IsStore(pid)) return true;
  for (int steps = 0; pid > 1 && steps < 8; ++steps) {
    if (pid == getpid()) return true;
    pid = ParentOf(pid);
  }
  return false;
}

}  // namespace

// ---- One group

std::optional<uint64_t> HostCgroup::OomKills() const {
  if (oom_counter_.empty()) return std::nullopt;
  constexpr absl::string_view kName = "oom_kill ";
  std::ifstream file(oom_counter_);
  for (std::string line; std::getline(file, line);) {
    uint64_t count = 0;
    if (absl::StartsWith(line, kName) && absl::SimpleAtoi(line.substr(kName.size()), &count)) {
      return count;
    }
  }
  return std::nullopt;
}

void HostCgroup::Remove() {
  for (const std::string& path : paths_) (void)rmdir(path.c_str());
  paths_.clear();
}

// ---- All of them

std::vector<HostCgroups::Hierarchy> HostCgroups::Hierarchies(const std::string& proc,
                                                             const std::string& apart,
                                                             std::string* lacks) {
  std::vector<Hierarchy> found;
  const std::vector<Mount> mounts = Mounts(proc);
  *lacks = "no hierarchy of control groups is mounted that counts memory";
  for (const absl::string_view line :
       absl::StrSplit(ReadAll(proc + "/self/cgroup"), '\n', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() < 3) continue;
    const bool version2 = parts[1].empty();
    for (const Mount& mount : mounts) {
      if (mount.version2 != version2) continue;
      const auto has = [&](const char* controller) {
        return std::count(mount.options.begin(), mount.options.end(), controller) != 0 &&
               HasWord(parts[1], controller);
      };
      Hierarchy one = {.base = version2 && !apart.empty() ? apart : FolderOf(mount, parts[2]),
                       .version2 = version2};
      if (one.base.empty()) continue;
      if (version2) {
        const std::string controllers = ReadAll(one.base + "/cgroup.controllers");
        one.memory = HasWord(controllers, "memory");
        one.pids = HasWord(controllers, "pids");
        one.cpu = HasWord(controllers, "cpu");
      } else {
        one.memory = has("memory");
        one.pids = has("pids");
        one.cpu = has("cpu");
      }
      if (!one.memory && (version2 || (!one.pids && !one.cpu))) continue;
      if (access(one.base.c_str(), W_OK) != 0) {
        if (one.memory) *lacks = absl::StrCat(one.base, " can't be written");
        continue;
      }
      if (std::string why = version2 ? Prepare(one, apart) : std::string(); !why.empty()) {
        *lacks = std::move(why);
        continue;
      }
      found.push_back(std::move(one));
      break;
    }
  }
  const bool memory =
      std::any_of(found.begin(), found.end(), [](const Hierarchy& one) { return one.memory; });
  if (!memory) return {};
  lacks->clear();
  return found;
}

std::string HostCgroups::Prepare(Hierarchy& hierarchy, const std::string& apart) {
  const std::string& base = hierarchy.base;
  // The first group of all has no limits, and may have processes beside groups; it has no type.
  const bool first = access((base + "/cgroup.type").c_str(), F_OK) != 0;
  if (!first && base != apart) {
    std::vector<std::string> ids =
        absl::StrSplit(ReadAll(base + "/cgroup.procs"), '\n', absl::SkipEmpty());
    for (const std::string& id : ids) {
      pid_t pid = 0;
      if (!absl::SimpleAtoi(id, &pid) || !IsOurs(pid)) {
        return absl::StrCat("the control group ", base, " has other processes (", id,
                            "): start it as a service of its own "
                            "(systemd: Delegate=yes)");
      }
    }
    const std::string service = absl::StrCat(base, "/", kServiceGroup);
    if (mkdir(service.c_str(), 0755) != 0 && errno != EEXIST) {
      return absl::StrCat(service, ": ", std::strerror(errno));
    }
    hierarchy.service = service;
    for (const std::string& id : ids) {
      // One that has ended meanwhile needs no move.
      const absl::Status moved = WriteTo(service + "/cgroup.procs", id);
      if (moved.ok() || absl::IsNotFound(moved)) continue;
      GiveBack(hierarchy);
      return std::string(moved.message());
    }
  }
  const auto enable = [&](const char* controller) {
    return WriteTo(base + "/cgroup.subtree_control", absl::StrCat("+", controller)).ok();
  };
  hierarchy.memory = enable("memory");
  hierarchy.pids = hierarchy.pids && enable("pids");
  hierarchy.cpu = hierarchy.cpu && enable("cpu");
  if (hierarchy.memory) return "";
  GiveBack(hierarchy);
  return absl::StrCat(base, " has no limits of memory for groups below it");
}

void HostCgroups::GiveBack(const Hierarchy& hierarchy) {
  if (hierarchy.service.empty()) return;
  for (const char* controller : {"-memory", "-pids", "-cpu"}) {
    (void)WriteTo(hierarchy.base + "/cgroup.subtree_control", controller);
  }
  const std::string ids = ReadAll(hierarchy.service + "/cgroup.procs");
  for (const absl::string_view id : absl::StrSplit(ids, '\n', absl::SkipEmpty())) {
    (void)WriteTo(hierarchy.base + "/cgroup.procs", id);
  }
  (void)rmdir(hierarchy.service.c_str());
}

HostCgroups::~HostCgroups() {
  for (const Hierarchy& one : hierarchies_) GiveBack(one);
}

void HostCgroups::RemoveLeftovers(const std::string& base) {
  std::error_code error;
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(base, error)) {
    const std::string name = entry.path().filename();
    absl::string_view rest = name;
    pid_t pid = 0;
    if (!absl::ConsumePrefix(&rest, kPrefix) ||
        !absl::SimpleAtoi(rest.substr(0, rest.find('-')), &pid)) {
      continue;
    }
    if (pid == getpid() || (kill(pid, 0) != 0 && errno == ESRCH)) left.push_back(entry.path());
  }
  for (const std::string& path : left) (void)rmdir(path.c_str());
}

HostCgroups HostCgroups::Find(const std::string& proc, const std::string& apart) {
  HostCgroups groups;
  groups.hierarchies_ = Hierarchies(proc, apart, &groups.lacks_);
  for (const Hierarchy& one : groups.hierarchies_) RemoveLeftovers(one.base);
  return groups;
}

std::string HostCgroups::OomCounterOf(const Hierarchy& hierarchy, const std::string& path) {
  return path + (hierarchy.version2 ? "/memory.events" : "/memory.oom_control");
}

absl::Status HostCgroups::Limit(const Hierarchy& hierarchy, const std::string& path,
                                const HostLimits& limits) {
  const std::string memory =
      absl::StrCat(limits.memory_bytes_max + limits.scratch_bytes_max + kOwnBytes);
  const uint64_t quota_us = uint64_t{limits.cpu_percent_max} * kCpuPeriodUs / 100;
  absl::Status status;
  if (hierarchy.memory && hierarchy.version2) {
    status.Update(WriteTo(path + "/memory.max", memory));
    (void)WriteTo(path + "/memory.swap.max", "0");  // absent in a kernel without swap
    (void)WriteTo(path + "/memory.oom.group", "1");
  } else if (hierarchy.memory) {
    status.Update(WriteTo(path + "/memory.limit_in_bytes", memory));
    (void)WriteTo(path + "/memory.memsw.limit_in_bytes", memory);  // likewise
  }
  if (hierarchy.pids) status.Update(WriteTo(path + "/pids.max", absl::StrCat(kTasksMax)));
  if (hierarchy.cpu && quota_us != 0) {
    status.Update(hierarchy.version2
                      ? WriteTo(path + "/cpu.max", absl::StrCat(quota_us, " ", kCpuPeriodUs))
                      : WriteTo(path + "/cpu.cfs_quota_us", absl::StrCat(quota_us)));
  }
  return status;
}

HostCgroup HostCgroups::Reopen(const std::string& name) const {
  HostCgroup group;
  if (name.empty() || name.find('/') != name.npos) return group;
  for (const Hierarchy& one : hierarchies_) {
    const std::string path = absl::StrCat(one.base, "/", name);
    if (access(path.c_str(), F_OK) != 0) continue;
    group.name_ = name;
    group.paths_.push_back(path);
    if (one.memory) group.oom_counter_ = OomCounterOf(one, path);
  }
  return group;
}

absl::StatusOr<HostCgroup> HostCgroups::Make(const HostLimits& limits) {
  if (!lacks_.empty()) return absl::UnavailableError(lacks_);
  HostCgroup group;
  group.name_ = absl::StrCat(kPrefix, getpid(), "-", ++made_);
  absl::Status status;
  for (const Hierarchy& one : hierarchies_) {
    // To enter a group of cpu takes a host longer than all others together, and without a limit it
    // is worth nothing there.
    if (!one.memory && !one.pids && limits.cpu_percent_max == 0) continue;
    const std::string path = absl::StrCat(one.base, "/", group.name_);
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
      status.Update(absl::ErrnoToStatus(errno, path));
      break;
    }
    group.paths_.push_back(path);
    status.Update(Limit(one, path, limits));
    UniqueFd door(open((path + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (!door.valid()) status.Update(absl::ErrnoToStatus(errno, path));
    group.doors_.push_back(std::move(door));
    if (one.version2) group.folder_.reset(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (one.memory) group.oom_counter_ = OomCounterOf(one, path);
  }
  if (status.ok()) return group;
  group.Remove();
  return status;
}

}  // namespace bulkhead
