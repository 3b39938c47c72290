// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/tree_marks.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint32_t kWatchMask = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_ONLYDIR;

}  // namespace

absl::StatusOr<std::unique_ptr<TreeMarks>> TreeMarks::Create(
    FanotifyGroup* group, const bh_callback_set& callbacks,
    std::function<void(const std::string&)> log) {
  std::unique_ptr<TreeMarks> marks(new TreeMarks(group, callbacks, std::move(log)));
  marks->inotify_.reset(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!marks->inotify_.valid()) {
    return absl::ErrnoToStatus(
        errno, "cannot watch for new directories (fs.inotify.max_user_instances may be too low)");
  }
  marks->stop_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!marks->stop_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  marks->thread_ = std::thread([marks = marks.get()] { marks->Watch(); });
  return marks;
}

TreeMarks::TreeMarks(FanotifyGroup* group, const bh_callback_set& callbacks,
                     std::function<void(const std::string&)> log)
    : group_(group), callbacks_(callbacks), log_(std::move(log)) {}

TreeMarks::~TreeMarks() {
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

absl::Status TreeMarks::AddTree(const std::string& root) {
  absl::StatusOr<UniqueFd> directory = OpenGuardedDirectory(root);
  if (!directory.ok()) return directory.status();
  struct stat object;
  if (fstat(directory->get(), &object) != 0) return absl::ErrnoToStatus(errno, root);
  const MutexLock lock(mutex_);
  roots_.push_back({root, object.st_dev});
  return Walk(root, object.st_dev, /*is_root=*/true);
}

absl::Status TreeMarks::Walk(const std::string& path, uint64_t device, bool is_root) {
  const int follow = is_root ? 0 : O_NOFOLLOW;
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | follow));
  if (!directory.valid()) {
    if (!is_root && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
      return absl::OkStatus();  // it was removed, or replaced by something else
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  }
  struct stat object;
  if (fstat(directory.get(), &object) != 0) return absl::ErrnoToStatus(errno, path);
  if (object.st_dev != device) return absl::OkStatus();

  // First watch, then mark, then list: a directory that is created in between is seen at least
  // once.
  const std::string by_descriptor = absl::StrCat("/proc/self/fd/", directory.get());
  const int watch = inotify_add_watch(inotify_.get(), by_descriptor.c_str(), kWatchMask);
  if (watch < 0) {
    if (errno == ENOSPC) {
      return absl::ResourceExhaustedError(
          "too many directories to watch: raise fs.inotify.max_user_watches");
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot watch ", path));
  }
  const bool is_new = watched_.count(watch) == 0;
  watched_[watch] = {path, device};
  absl::Status status = group_->Mark(directory.get(), MarkKind::kDirectory, callbacks_, path);
  if (!status.ok()) return status;
  if (is_new) directories_.fetch_add(1);

  DIR* listing = fdopendir(directory.get());
  if (listing == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot list ", path));
  (void)directory.release();  // owned by the listing now
  std::vector<std::string> children;
  while (const dirent* entry = readdir(listing)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN) children.push_back(name);
  }
  closedir(listing);
  // A user with write access here can create a directory that can't be marked. Its neighbours
  // still get marks.
  for (const std::string& child : children) {
    status = Walk(absl::StrCat(path, "/", child), device, /*is_root=*/false);
    if (absl::IsResourceExhausted(status)) return status;
    Unguarded(status);
  }
  return absl::OkStatus();
}

void TreeMarks::Unguarded(const absl::Status& status) {
  if (status.ok()) return;
  log_.Log(absl::StrCat("not guarded: ", std::string(status.message())), MonotonicNowNs());
}

void TreeMarks::Watch() {
  for (;;) {
    pollfd waited[2] = {{.fd = inotify_.get(), .events = POLLIN, .revents = 0},
                        {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
    poll(waited, 2, static_cast<int>(LogLimit::kMinuteNs / kNanosecondsPerMillisecond));
    const bool stops = waited[1].revents != 0;
    if (!stops) HandleEvents();
    const MutexLock lock(mutex_);
    log_.TellLeftOut(stops ? kForeverNs : MonotonicNowNs());
    if (stops) return;
  }
}

void TreeMarks::HandleEvents() {
  alignas(inotify_event) char buffer[16 * 1024];
  bool again = false;  // remembered paths may be wrong: walk all trees again
  for (;;) {
    const ssize_t bytes = read(inotify_.get(), buffer, sizeof(buffer));
    if (bytes <= 0) break;
    const MutexLock lock(mutex_);
    for (ssize_t at = 0; at < bytes;) {
      inotify_event event;
      std::memcpy(&event, buffer + at, sizeof(event));
      const std::string name = event.len > 0 ? std::string(buffer + at + sizeof(event)) : "";
      at += static_cast<ssize_t>(sizeof(event) + event.len);
      if ((event.mask & IN_IGNORED) != 0) {
        watched_.erase(event.wd);
        continue;
      }
      if ((event.mask & IN_Q_OVERFLOW) != 0) again = true;
      if ((event.mask & IN_ISDIR) == 0) continue;
      const auto parent = watched_.find(event.wd);
      if (parent == watched_.end()) continue;
      if ((event.mask & (IN_MOVED_TO | IN_MOVED_FROM)) != 0) again = true;
      // A copy: the walk changes the map.
      const Watched where = parent->second;
      if ((event.mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
        Unguarded(Walk(absl::StrCat(where.path, "/", name), where.device, /*is_root=*/false));
      }
    }
  }
  if (!again) return;
  const MutexLock lock(mutex_);
  for (const Watched& root : roots_) Unguarded(Walk(root.path, root.device, /*is_root=*/true));
}

}  // namespace bulkhead
