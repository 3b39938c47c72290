// SPDX-License-Identifier: Apache-2.0
#include "host/process/file_access.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr const char* kSystem[] = {
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/usr/share/locale",
    "/proc/self",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
};

absl::Status Failed(const char* what) {
  return absl::InternalError(absl::StrCat("sandbox: ", what, ": ", std::strerror(errno)));
}

// The rights to files that this version of Landlock knows; those of later versions than the third
// are about the network and devices. What is not handled here stays allowed.
uint64_t HandledRights(long version) {
  const int known = version >= 3 ? 15 : version == 2 ? 14 : 13;
  return (uint64_t{1} << known) - 1;
}

constexpr uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr uint64_t kReadFolder = kReadFile | LANDLOCK_ACCESS_FS_READ_DIR;
// Of later versions than Debian 12's header has.
constexpr uint64_t kRefer = 1u << 13, kTruncate = 1u << 14;
constexpr uint64_t kWriteFile = kReadFile | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate;
// Files and folders: no device nodes, sockets, pipes and links.
constexpr uint64_t kWriteFolder = kReadFolder | kWriteFile | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                  LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                  LANDLOCK_ACCESS_FS_MAKE_DIR | kRefer;

// `rights` are those to a folder; a file has those of them that a file can have.
absl::Status Allow(int ruleset, const std::string& path, uint64_t rights) {
  const UniqueFd place(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!place.valid()) return absl::OkStatus();  // it is not there, or this user may not see it
  struct stat status;
  if (fstat(place.get(), &status) != 0) return Failed(path.c_str());
  landlock_path_beneath_attr rule = {};
  rule.parent_fd = place.get();
  rule.allowed_access = S_ISDIR(status.st_mode) ? rights : rights & kWriteFile;
  if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return Failed(path.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Span<const char* const> SystemPaths() { return kSystem; }

absl::Status LimitFiles(absl::Span<const std::string> readable,
                        absl::Span<const std::string> writable) {
  const long version =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 0 && (errno == ENOSYS || errno == EOPNOTSUPP)) {
    return absl::UnimplementedError("this kernel has no Landlock");
  }
  if (version < 0) return Failed("landlock");
  landlock_ruleset_attr wanted = {};
  wanted.handled_access_fs = HandledRights(version);
  const UniqueFd ruleset(
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &wanted, sizeof(wanted), 0)));
  if (!ruleset.valid()) return Failed("a Landlock ruleset");
  for (const char* path : kSystem) {
    if (absl::Status status = Allow(ruleset.get(), path, kReadFolder); !status.ok()) return status;
  }
  for (const std::string& path : readable) {
    if (absl::Status status = Allow(ruleset.get(), path, kReadFolder); !status.ok()) return status;
  }
  for (const std::string& path : writable) {
    const uint64_t rights = kWriteFolder & wanted.handled_access_fs;
    if (absl::Status status = Allow(ruleset.get(), path, rights); !status.ok()) return status;
  }
  if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) return Failed("landlock");
  return absl::OkStatus();
}

}  // namespace bulkhead
