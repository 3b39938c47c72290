// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/host_user.h"

#include <cap-ng.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string>

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

}  // namespace

absl::Status IsOpenToOthers(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::canonical(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path, ": ", error.message()));
  const bool passed = path.ends_with('/');
  std::filesystem::path part;
  for (const std::filesystem::path& name : whole) {
    part /= name;
    struct stat object = {};
    if (stat(part.c_str(), &object) != 0) return absl::ErrnoToStatus(errno, part.string());
    const mode_t wanted =
        (S_ISDIR(object.st_mode) ? S_IXOTH : 0u) | (part == whole && !passed ? S_IROTH : 0u);
    if ((object.st_mode & wanted) != wanted) {
      return absl::PermissionDeniedError(absl::StrCat(part.string(), " is closed to other users"));
    }
  }
  return absl::OkStatus();
}

HostUser ChooseHostUser(uint64_t seed, const std::set<uid_t>& taken,
                        const std::vector<std::string>& needed) {
  if (geteuid() != 0) return {.lacks = "the supervisor is not root"};
  capng_get_caps_process();
  for (const unsigned capability : kNeeded) {
    if (capng_have_capability(CAPNG_EFFECTIVE, capability) == 0) {
      return {.lacks =
                  absl::StrCat("the supervisor lacks CAP_", capng_capability_to_name(capability))};
    }
  }
  for (const std::string& path : needed) {
    if (absl::Status status = IsOpenToOthers(path); absl::IsPermissionDenied(status)) {
      return {.lacks = std::string(status.message())};
    }
  }
  constexpr uid_t kCount = kHostUsersLast - kHostUsersFirst + 1;
  for (uid_t i = 0; i < kCount; ++i) {
    const uid_t id = kHostUsersFirst + static_cast<uid_t>((seed + i) % kCount);
    if (taken.count(id) == 0 && !IsNamed(id)) return {.id = id};
  }
  return {.lacks = absl::StrCat("no user id from ", kHostUsersFirst, " to ", kHostUsersLast,
                                " is free")};
}

}  // namespace bulkhead
