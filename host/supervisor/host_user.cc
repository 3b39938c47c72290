// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/host_user.h"

#include <cap-ng.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

constexpr unsigned kNeeded[] = {CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL};

bool IsNamed(uid_t id) {
  std::array<char, 16384> text;
  passwd user = {};
  passwd* found_user = nullptr;
  group members = {};
  group* found_group = nullptr;
  const int user_error = getpwuid_r(id, &user, text.data(), text.size(), &found_user);
  const int group_error = getgrgid_r(id, &members, text.data(), text.size(), &found_group);
  return found_user != nullptr || found_group != nullptr || user_error == ERANGE ||
         group_error == ERANGE;
}

constexpr int kLinksMax = 40;  // as the kernel follows

absl::Status Closed(const std::filesystem::path& path) {
  return absl::PermissionDeniedError(absl::StrCat(path.string(), " is closed to other users"));
}

// The way that the kernel goes, through all links: where it ends, or the first folder on it that
// others can't pass.
absl::StatusOr<std::filesystem::path> FollowAsOthers(const std::filesystem::path& way) {
  std::filesystem::path done = "/";
  std::deque<std::filesystem::path> left(way.begin(), way.end());
  for (int links = 0; !left.empty();) {
    const std::filesystem::path name = left.front();
    left.pop_front();
    if (name.empty() || name == "." || name.has_root_directory()) continue;
    if (name == "..") {
      done = done.parent_path();
      continue;
    }
    const std::filesystem::path next = done / name;
    struct stat object = {};
    if (lstat(next.c_str(), &object) != 0) return absl::ErrnoToStatus(errno, next.string());
    if (S_ISLNK(object.st_mode)) {
      std::error_code error;
      const std::filesystem::path target = std::filesystem::read_symlink(next, error);
      if (error || ++links > kLinksMax) return absl::NotFoundError(next.string());
      if (target.is_absolute()) done = "/";
      left.insert(left.begin(), target.begin(), target.end());
      continue;
    }
    if (S_ISDIR(object.st_mode) && (object.st_mode & S_IXOTH) == 0) return Closed(next);
    done = next;
  }
  return done;
}

constexpr int kPackageFilesMax = 10'000;  // one that has more counts as closed

// Links are left out, and the folder `but`.
absl::Status IsPackageOpenToOthers(const std::string& folder, const std::string& but) {
  std::error_code error;
  int left = kPackageFilesMax;
  std::filesystem::recursive_directory_iterator file(folder, error), end;
  for (; !error && file != end; file.increment(error)) {
    if (file->path() == but) {
      file.disable_recursion_pending();
      continue;
    }
    if (file->is_symlink(error)) continue;
    if (--left < 0) return absl::PermissionDeniedError(absl::StrCat(folder, " has too many files"));
    const bool is_folder = file->is_directory(error);
    struct stat object = {};
    if (!error && stat(file->path().c_str(), &object) != 0) return absl::OkStatus();
    const mode_t wanted = S_IROTH | (is_folder ? S_IXOTH : 0u);
    if ((object.st_mode & wanted) != wanted) {
      return Closed(file->path());
    }
  }
  return absl::OkStatus();
}

// Whether the user namespace that this process is in has the id.
bool IsMapped(const char* map, uid_t id) {
  std::ifstream ranges(map);
  for (uint64_t inside, outside, count; ranges >> inside >> outside >> count;) {
    if (id >= inside && id - inside < count) return true;
  }
  return false;
}

}  // namespace

absl::Status IsOpenToOthers(const std::string& path, bool for_writing) {
  std::error_code error;
  const absl::StatusOr<std::filesystem::path> end =
      FollowAsOthers(std::filesystem::absolute(path, error));
  if (!end.ok()) return end.status();
  struct stat object = {};
  if (stat(end->c_str(), &object) != 0) return absl::ErrnoToStatus(errno, end->string());
  if (!path.ends_with('/') && (object.st_mode & S_IROTH) == 0) return Closed(*end);
  if (for_writing && (object.st_mode & S_IWOTH) == 0) return Closed(*end);
  return absl::OkStatus();
}

HostUser ChooseHostUser(uint64_t seed, const std::set<uid_t>& taken, const HostNeeds& needs) {
  if (geteuid() != 0) return {.lacks = "the supervisor is not root"};
  capng_get_caps_process();
  for (const unsigned capability : kNeeded) {
    if (capng_have_capability(CAPNG_EFFECTIVE, capability) == 0) {
      return {.lacks =
                  absl::StrCat("the supervisor lacks CAP_", capng_capability_to_name(capability))};
    }
  }
  if (!IsMapped("/proc/self/uid_map", kHostUsersLast) ||
      !IsMapped("/proc/self/gid_map", kHostUsersLast)) {
    return {.lacks = "the supervisor's user namespace has no such ids"};
  }
  absl::Status status = IsPackageOpenToOthers(needs.package, needs.content);
  for (const std::string& path : needs.paths) {
    // What is not there is for others to say.
    if (absl::IsPermissionDenied(status)) break;
    status = IsOpenToOthers(path);
  }
  for (const std::string& path : needs.writable) {
    if (absl::IsPermissionDenied(status)) break;
    status = IsOpenToOthers(path, /*for_writing=*/true);
  }
  if (absl::IsPermissionDenied(status)) return {.lacks = std::string(status.message())};
  constexpr uid_t kCount = kHostUsersLast - kHostUsersFirst + 1;
  for (uid_t i = 0; i < kCount; ++i) {
    const uid_t id = kHostUsersFirst + static_cast<uid_t>((seed + i) % kCount);
    if (taken.count(id) == 0 && !IsNamed(id)) return {.id = id};
  }
  return {.lacks = absl::StrCat("no user id from ", kHostUsersFirst, " to ", kHostUsersLast,
                                " is free")};
}

}  // namespace bulkhead
