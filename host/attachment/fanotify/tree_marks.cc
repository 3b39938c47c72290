// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/tree_marks.h"

#include <fcntl.h>
#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/attachment/fanotify/directory_walk.h"
#include "host/attachment/place.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint32_t kWatchMask = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;
constexpr uint32_t kRootMask = IN_MOVE_SELF | IN_DELETE_SELF;

// struct file_handle ends in an array of any length.
struct HandleRoom {
  file_handle header;
  std::array<unsigned char, MAX_HANDLE_SZ> bytes;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TreeMarks>> TreeMarks::Create(
    FanotifyGroup* group, const bh_callback_set& callbacks, const std::string& name,
    std::function<void(const std::string&)> log) {
  std::unique_ptr<TreeMarks> marks(new TreeMarks(group, callbacks, name, std::move(log)));
  marks->inotify_.reset(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!marks->inotify_.valid()) {
    return absl::ErrnoToStatus(
        errno, "cannot watch for new directories (fs.inotify.max_user_instances may be too low)");
  }
  return marks;
}

TreeMarks::TreeMarks(FanotifyGroup* group, const bh_callback_set& callbacks, std::string name,
                     std::function<void(const std::string&)> log)
    : group_(group), callbacks_(callbacks), name_(std::move(name)), log_(std::move(log)) {}

TreeMarks::~TreeMarks() { log_.TellLeftOut(kForeverNs); }

absl::Status TreeMarks::MarkAll(int root) {
  unmarked_ = 0;
  first_unmarked_.clear();
  return Walk(root, /*is_root=*/true, "");
}

absl::Status TreeMarks::Walk(int from, bool is_root, const std::string& where) {
  bool is_first = is_root;
  DirectoryWalk walk;
  walk.visit = [&](int directory) { return Mark(directory, std::exchange(is_first, false)); };
  walk.failed = [&](const std::string& below, const absl::Status& status) {
    Unmarked(absl::StrCat(where, below), status);
  };
  return WalkDirectories(from, walk);
}

// First the watch, then the mark; its caller lists it then. So a directory that is created
// meanwhile is seen at least once.
absl::Status TreeMarks::Mark(int directory, bool is_root) {
  const std::string by_descriptor = absl::StrCat("/proc/self/fd/", directory);
  const int watch = inotify_add_watch(inotify_.get(), by_descriptor.c_str(),
                                      kWatchMask | (is_root ? kRootMask : 0u));
  if (watch < 0) {
    if (errno == ENOSPC) {
      return absl::ResourceExhaustedError(
          "too many directories to watch: raise fs.inotify.max_user_watches");
    }
    return absl::ErrnoToStatus(errno, "cannot watch it");
  }
  if (is_root) root_watch_ = watch;
  const auto [found, is_new] = watched_.try_emplace(watch);
  if (is_new) {
    HandleRoom room = {};
    room.header.handle_bytes = MAX_HANDLE_SZ;
    int mount = 0;
    if (name_to_handle_at(directory, "", &room.header, &mount, AT_EMPTY_PATH) == 0) {
      found->second.type = room.header.handle_type;
      found->second.bytes.assign(reinterpret_cast<const char*>(room.header.f_handle),
                                 room.header.handle_bytes);
    }
  }
  absl::Status status = group_->Mark(directory, MarkKind::kDirectory, callbacks_, name_);
  if (status.ok() && is_new) directories_.fetch_add(1);
  return status;
}

void TreeMarks::Unmarked(const std::string& where, const absl::Status& status) {
  const std::string text = absl::StrCat(name_, "/", where, ": ", std::string(status.message()));
  if (unmarked_++ == 0) first_unmarked_ = text;
  log_.Log(absl::StrCat("not guarded: ", text), MonotonicNowNs());
}

void TreeMarks::Came(int root, int watch, const std::string& name, Change& change) {
  const auto parent = watched_.find(watch);
  if (parent == watched_.end()) return;
  const Handle& handle = parent->second;
  if (root < 0 || handle.bytes.empty()) {
    change.mark_again = true;
    return;
  }
  HandleRoom room = {};
  room.header.handle_type = handle.type;
  room.header.handle_bytes = static_cast<unsigned>(handle.bytes.size());
  std::copy(handle.bytes.begin(), handle.bytes.end(), room.header.f_handle);
  const UniqueFd directory(
      open_by_handle_at(root, &room.header, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) {
    if (errno != ESTALE) change.mark_again = true;  // ESTALE: it was deleted
    return;
  }
  const UniqueFd child(openat(directory.get(), name.c_str(),
                              O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!child.valid()) {
    // It was removed, or is none any more.
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return;
    return Unmarked(name, absl::ErrnoToStatus(errno, "cannot open it"));
  }
  const absl::StatusOr<DirectoryId> above = IdOf(root);
  const absl::StatusOr<DirectoryId> id = IdOf(child.get());
  if (above.ok() && id.ok() && id->mount != above->mount) return;
  if (absl::Status status = Walk(child.get(), /*is_root=*/false, absl::StrCat("…/", name, "/"));
      !status.ok()) {
    Unmarked(absl::StrCat("…/", name), status);
  }
}

TreeMarks::Change TreeMarks::HandleEvents(int root) {
  Change change;
  alignas(inotify_event) char buffer[16 * 1024];
  const ssize_t bytes = read(inotify_.get(), buffer, sizeof(buffer));
  for (ssize_t at = 0; at < bytes;) {
    inotify_event event;
    std::memcpy(&event, buffer + at, sizeof(event));
    const std::string name = event.len > 0 ? std::string(buffer + at + sizeof(event)) : "";
    at += static_cast<ssize_t>(sizeof(event) + event.len);
    if ((event.mask & IN_Q_OVERFLOW) != 0) change.mark_again = true;
    if (event.wd == root_watch_ && (event.mask & (kRootMask | IN_UNMOUNT | IN_IGNORED)) != 0) {
      change.root_moved = true;
    }
    if ((event.mask & IN_IGNORED) != 0) {
      watched_.erase(event.wd);
    } else if ((event.mask & IN_ISDIR) != 0 && (event.mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
      Came(root, event.wd, name, change);
    }
  }
  return change;
}

}  // namespace bulkhead
