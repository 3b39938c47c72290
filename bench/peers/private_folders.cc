// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/private_folders.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

absl::Status Forbidden(const char* what) {
  const int error = errno;
  return absl::UnavailableError(
      absl::StrCat("no private folders on this machine, ",
                   std::string(absl::ErrnoToStatus(error, what).message())));
}

bool Write(const char* path, const std::string& text) {
  const UniqueFd file(open(path, O_WRONLY | O_CLOEXEC));
  return file.valid() &&
         write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

}  // namespace

absl::Status MakeFoldersPrivate() {
  const uid_t user = geteuid();
  const gid_t group = getegid();
  if (user == 0) {
    if (unshare(CLONE_NEWNS) != 0) return Forbidden("unshare");
  } else {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return Forbidden("unshare");
    if (!Write("/proc/self/setgroups", "deny") ||
        !Write("/proc/self/uid_map", absl::StrCat(user, " ", user, " 1")) ||
        !Write("/proc/self/gid_map", absl::StrCat(group, " ", group, " 1"))) {
      return Forbidden("uid_map");
    }
  }
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Forbidden("mount");
  for (const char* folder : {"/tmp", "/dev/shm"}) {
    if (mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") != 0) {
      return Forbidden(folder);
    }
  }
  return absl::OkStatus();
}

}  // namespace bulkhead
