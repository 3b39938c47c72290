// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/directory_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/attachment/place.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr size_t kKeptOpen = 128;  // levels nearest to the root
constexpr int kAttempts = 16;
constexpr size_t kWhereBytesMax = 200;

struct Level {
  UniqueFd directory;  // not valid: closed, to be opened again as ".." of a child
  DirectoryId id;
  std::string name;
  std::vector<std::string> children;  // not yet visited
};

absl::StatusOr<std::vector<std::string>> ListDirectories(int directory) {
  // fdopendir() takes the descriptor, and the offset is the open file's.
  UniqueFd own(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own.valid()) return absl::ErrnoToStatus(errno, "cannot open it again");
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(own.get()), closedir);
  if (listing == nullptr) return absl::ErrnoToStatus(errno, "cannot list it");
  (void)own.release();  // the listing's
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(listing.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN) names.push_back(name);
  }
  if (errno != 0) return absl::ErrnoToStatus(errno, "cannot list all of it");
  return names;
}

std::string Where(const std::vector<Level>& path, const std::string& name = "") {
  std::string where;
  for (size_t i = 1; i < path.size() && where.size() < kWhereBytesMax; ++i) {
    absl::StrAppend(&where, "/", path[i].name);
  }
  if (!name.empty()) absl::StrAppend(&where, "/", name);
  if (where.size() <= kWhereBytesMax) return where.empty() ? "." : where.substr(1);
  return absl::StrCat(where.substr(1, kWhereBytesMax), "…");
}

class Walk {
 public:
  Walk(int root, const DirectoryWalk& walk) : root_(root), walk_(walk) {}

  // Aborted: it has to begin anew.
  absl::Status Run() {
    path_.clear();
    UniqueFd root(openat(root_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return absl::ErrnoToStatus(errno, "cannot open it again");
    const absl::StatusOr<DirectoryId> id = IdOf(root.get());
    if (!id.ok()) return id.status();
    if (absl::Status status = Enter(std::move(root), *id, ""); !status.ok()) return status;
    while (!path_.empty()) {
      if (path_.back().children.empty()) {
        if (absl::Status status = Leave(); !status.ok()) return status;
        continue;
      }
      const std::string name = std::move(path_.back().children.back());
      path_.back().children.pop_back();
      absl::Status status = Visit(name);
      if (absl::IsResourceExhausted(status)) return status;
      if (!status.ok()) walk_.failed(Where(path_, name), status);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Enter(UniqueFd directory, const DirectoryId& id, const std::string& name) {
    if (absl::Status status = walk_.visit(directory.get()); !status.ok()) return status;
    absl::StatusOr<std::vector<std::string>> children = ListDirectories(directory.get());
    if (!children.ok()) return children.status();
    if (path_.size() > kKeptOpen) path_.back().directory.reset();
    path_.push_back({std::move(directory), id, name, *std::move(children)});
    return absl::OkStatus();
  }

  absl::Status Visit(const std::string& name) {
    UniqueFd child(openat(path_.back().directory.get(), name.c_str(),
                          O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!child.valid()) {
      // It was removed, or is none.
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return absl::OkStatus();
      if (errno == EMFILE || errno == ENFILE) {
        return absl::ResourceExhaustedError("too many open files: raise ulimit -n");
      }
      return absl::ErrnoToStatus(errno, "cannot open it");
    }
    const absl::StatusOr<DirectoryId> id = IdOf(child.get());
    if (!id.ok()) return id.status();
    if (id->mount != path_.front().id.mount) return absl::OkStatus();  // mounted there
    return Enter(std::move(child), *id, name);
  }

  absl::Status Leave() {
    const Level done = std::move(path_.back());
    path_.pop_back();
    if (path_.empty() || path_.back().directory.valid()) return absl::OkStatus();
    UniqueFd parent(openat(done.directory.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent.valid()) return absl::AbortedError("a deep directory was removed or moved");
    const absl::StatusOr<DirectoryId> id = IdOf(parent.get());
    if (!id.ok()) return id.status();
    if (*id != path_.back().id) return absl::AbortedError("a deep directory was moved");
    path_.back().directory = std::move(parent);
    return absl::OkStatus();
  }

  const int root_;
  const DirectoryWalk& walk_;
  std::vector<Level> path_;  // from the root
};

}  // namespace

absl::Status WalkDirectories(int root, const DirectoryWalk& walk) {
  absl::Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    status = Walk(root, walk).Run();
    if (!absl::IsAborted(status)) break;
  }
  return status;
}

}  // namespace bulkhead
