// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/opener.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

// The lines up to "Uid:" are 300 bytes.
constexpr size_t kStatusBytes = 1024;
// Each that the kernel allows below the first one, and that: create_user_ns() refuses the 34th.
constexpr int kNamespacesDeep = 40;

// The first number of a line of /proc/PID/status, as in "\nUid:\t".
std::optional<unsigned long> StatusOf(pid_t process, std::string_view line) {
  char path[32];
  std::snprintf(path, sizeof(path), "/proc/%d/status", process);
  const UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return std::nullopt;
  std::array<char, kStatusBytes> text;
  const ssize_t bytes = read(file.get(), text.data(), text.size() - 1);
  if (bytes <= 0) return std::nullopt;
  text[static_cast<size_t>(bytes)] = '\0';
  // A process chooses its name, in which the kernel writes no line's end.
  const size_t found = std::string_view(text.data()).find(line);
  if (found == std::string_view::npos) return std::nullopt;
  return std::strtoul(text.data() + found + line.size(), nullptr, 10);
}

std::optional<ino_t> NamespaceOf(const char* path) {
  struct stat object;
  if (stat(path, &object) != 0) return std::nullopt;
  return object.st_ino;
}

// The user that made the outermost namespace below ours that root did not make; or `user`.
std::optional<uid_t> WhoAnswersFor(pid_t process, uid_t user) {
  static const std::optional<ino_t> ours = NamespaceOf("/proc/self/ns/user");
  char path[32];
  std::snprintf(path, sizeof(path), "/proc/%d/ns/user", process);
  UniqueFd space(open(path, O_RDONLY | O_CLOEXEC));
  for (int depth = 0; space.valid() && depth < kNamespacesDeep; ++depth) {
    struct stat object;
    if (fstat(space.get(), &object) != 0) return std::nullopt;
    if (object.st_ino == ours) return user;
    uid_t owner = 0;
    if (ioctl(space.get(), NS_GET_OWNER_UID, &owner) != 0) return std::nullopt;
    if (owner != 0) user = owner;
    space.reset(ioctl(space.get(), NS_GET_PARENT));
  }
  return std::nullopt;
}

}  // namespace

uint32_t OpenerOf(pid_t process) {
  const std::optional<unsigned long> user = StatusOf(process, "\nUid:\t");
  if (!user.has_value()) return kUnknownOpener;
  const std::optional<uid_t> answers = WhoAnswersFor(process, static_cast<uid_t>(*user));
  if (!answers.has_value()) return kUnknownOpener;
  return *answers + 1;
}

pid_t ParentOf(pid_t process) {
  const std::optional<unsigned long> parent = StatusOf(process, "\nPPid:\t");
  return parent.has_value() ? static_cast<pid_t>(*parent) : -1;
}

}  // namespace bulkhead
