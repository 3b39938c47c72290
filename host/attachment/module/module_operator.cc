// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/module/module_operator.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModule = "/sys/module/bulkhead";
constexpr const char* kHostLink = "anon_inode:[bulkhead-host]";

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Not by its name: that depends on whose /dev it is.
std::optional<dev_t> Device() {
  unsigned major_number = 0, minor_number = 0;
  const std::string text = FirstLine("/sys/class/misc/bulkhead/dev");
  if (std::sscanf(text.c_str(), "%u:%u", &major_number, &minor_number) != 2) return std::nullopt;
  return makedev(major_number, minor_number);
}

// What holds a process together is gone when its threads are read one after another: errors mean
// that there is nothing.
std::vector<fs::path> Entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    found.push_back(entry->path());
  }
  return found;
}

bool MapsAChannel(const fs::path& process) {
  std::ifstream maps(process / "maps");
  for (std::string line; std::getline(maps, line);) {
    int name = 0;
    // A file can be named as it likes: only the whole field counts.
    if (std::sscanf(line.c_str(), "%*s %*s %*s %*s %*s %n", &name) == 0 && name > 0 &&
        line.compare(static_cast<size_t>(name), std::string::npos, kHostLink) == 0) {
      return true;
    }
  }
  return false;
}

std::optional<ModuleHolder> Holder(const fs::path& process, std::optional<dev_t> device) {
  const pid_t pid = static_cast<pid_t>(std::atol(process.filename().c_str()));
  if (pid <= 0) return std::nullopt;
  ModuleHolder holder = {pid, FirstLine(process / "comm"), false};
  bool host = MapsAChannel(process);
  for (const fs::path& thread : Entries(process / "task")) {
    for (const fs::path& descriptor : Entries(thread / "fd")) {
      struct stat status = {};
      std::error_code error;
      if (device && stat(descriptor.c_str(), &status) == 0 && S_ISCHR(status.st_mode) &&
          status.st_rdev == *device) {
        holder.supervisor = true;
      } else if (fs::read_symlink(descriptor, error) == kHostLink) {
        host = true;
      }
    }
  }
  if (!host && !holder.supervisor) return std::nullopt;
  return holder;
}

void Kill(const ModuleHolder& holder, uint64_t until_ns,
          const std::function<void(const ModuleHolder&)>& on_kill) {
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, holder.pid, 0)));
  // Looked at again: the number may be another's by now.
  if (!process.valid() || !Holder(absl::StrCat("/proc/", holder.pid), Device())) return;
  if (syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) != 0) return;
  on_kill(holder);
  pollfd ended = {process.get(), POLLIN, 0};
  while (poll(&ended, 1, 100) == 0 && MonotonicNowNs() < until_ns) {
  }
}

}  // namespace

bool ModuleLoaded() {
  std::error_code error;
  return fs::exists(kModule, error);
}

absl::Status EjectModule() {
  const UniqueFd parameter(
      open(absl::StrCat(kModule, "/parameters/eject").c_str(), O_WRONLY | O_CLOEXEC));
  if (parameter.valid() && write(parameter.get(), "1", 1) == 1) return absl::OkStatus();
  if (errno == ENOENT) return absl::NotFoundError("the kernel module is not loaded");
  return absl::ErrnoToStatus(errno, "can't eject the kernel module (it takes root)");
}

std::vector<ModuleHolder> ModuleHolders() {
  std::vector<ModuleHolder> holders;
  const std::optional<dev_t> device = Device();
  for (const fs::path& process : Entries("/proc")) {
    if (std::optional<ModuleHolder> holder = Holder(process, device)) holders.push_back(*holder);
  }
  return holders;
}

absl::Status UnloadModule(uint64_t until_ns,
                          const std::function<void(const ModuleHolder&)>& on_kill) {
  for (;;) {
    const std::vector<ModuleHolder> holders = ModuleHolders();
    // First the processes that would start others.
    for (const bool supervisors : {true, false}) {
      for (const ModuleHolder& holder : holders) {
        if (holder.supervisor == supervisors) Kill(holder, until_ns, on_kill);
      }
    }
    if (syscall(SYS_delete_module, "bulkhead", O_NONBLOCK) == 0) return absl::OkStatus();
    if (errno == ENOENT) return absl::NotFoundError("the kernel module is not loaded");
    if (errno != EWOULDBLOCK && errno != EBUSY) {
      return absl::ErrnoToStatus(errno, "can't unload the kernel module");
    }
    if (MonotonicNowNs() >= until_ns) break;
    const timespec pause = {.tv_sec = 0, .tv_nsec = 5'000'000};  // what was killed still closes
    nanosleep(&pause, nullptr);
  }
  std::string by;
  for (const ModuleHolder& holder : ModuleHolders()) {
    absl::StrAppend(&by, by.empty() ? "" : ", ", holder.program, " (pid ", holder.pid, ")");
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the kernel module is still in use by ",
      by.empty() ? "a process that /proc does not show" : by, "; it is ejected, and stays loaded"));
}

absl::Status LoadModule(const std::string& file) {
  const UniqueFd module(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (module.valid() && syscall(SYS_finit_module, module.get(), "", 0) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, absl::StrCat("can't load ", file));
}

}  // namespace bulkhead
