// SPDX-License-Identifier: Apache-2.0
#include "host/process/empty_root.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "host/process/file_access.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

constexpr int kLinksMax = 40;  // as the kernel follows
constexpr uint64_t kPlain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
// Where the new root is filled, if this folder exists: AppArmor knows a file by its name, and the
// service's profile lets it write below this one (packaging/apparmor), but not make "/lib".
constexpr char kFilledAt[] = "/run/bulkhead";

absl::Status Failed(absl::string_view what) {
  return absl::ErrnoToStatus(errno, absl::StrCat("an empty root: ", what));
}

bool IsBelow(absl::string_view path, absl::string_view folder) {
  return path.size() > folder.size() && path.substr(0, folder.size()) == folder &&
         path[folder.size()] == '/';
}

// A file system without a place yet.
class NewFileSystem {
 public:
  explicit NewFileSystem(const char* kind) : context_(fsopen(kind, FSOPEN_CLOEXEC)) {}
  NewFileSystem& Set(const char* key, const std::string& value) {
    good_ = good_ && fsconfig(context_.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0;
    return *this;
  }
  // Not valid, with errno: refused.
  UniqueFd Make(uint64_t attributes) {
    if (!good_ || fsconfig(context_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
      return UniqueFd();
    }
    return UniqueFd(fsmount(context_.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
  }

 private:
  UniqueFd context_;
  bool good_ = true;
};

class Builder {
 public:
  explicit Builder(const RootContents& contents) : contents_(contents) {}

  absl::Status Build(std::string* without_proc) {
    root_ = NewFileSystem("tmpfs")
                .Set("mode", "755")
                .Set("size", "1m")
                .Make(kPlain | MOUNT_ATTR_NOEXEC);
    if (!root_.valid()) return Failed("a file system");
    for (const char* path : SystemPaths()) Want(path, /*writable=*/false);
    for (const std::string& path : contents_.readable) Want(path, /*writable=*/false);
    for (const std::string& path : contents_.writable) Want(path, /*writable=*/true);
    if (absl::Status status = OpenAll(); !status.ok()) return status;
    // From here on no path of the old root is needed: the new one may hide some of them.
    const bool aside = access(kFilledAt, F_OK) == 0;
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Failed("private");
    if (absl::Status status = PutRoot(aside ? kFilledAt : "/"); !status.ok()) return status;
    absl::Status filled = Fill(without_proc);
    // On top of the old one, where no path of this process leads.
    if (filled.ok() && aside) filled = PutRoot("/");
    if (!filled.ok() && aside) (void)umount2(kFilledAt, MNT_DETACH);
    return filled.ok() ? Enter() : filled;
  }

 private:
  struct Link {
    std::string path, target;
  };
  struct Place {
    std::string path;  // real: no link on the way
    bool writable = false;
    bool device = false;
    UniqueFd tree;
  };

  // The way that the kernel goes; the new root gets each link of it, too. Nothing when it leads
  // nowhere.
  std::optional<std::string> Follow(const std::string& path, struct stat* object) {
    std::string done;
    std::vector<std::string> words = absl::StrSplit(path, '/', absl::SkipEmpty());
    std::deque<std::string> left(words.begin(), words.end());
    for (int links = 0; !left.empty();) {
      const std::string name = std::move(left.front());
      left.pop_front();
      if (name == ".") continue;
      if (name == "..") {
        done = done.substr(0, std::min(done.size(), done.rfind('/')));
        continue;
      }
      const std::string next = absl::StrCat(done, "/", name);
      if (lstat(next.c_str(), object) != 0) return std::nullopt;
      if (!S_ISLNK(object->st_mode)) {
        done = next;
        continue;
      }
      std::error_code error;
      const std::string target = std::filesystem::read_symlink(next, error).string();
      if (error || ++links > kLinksMax) return std::nullopt;
      links_.push_back({.path = next, .target = target});
      if (target[0] == '/') done.clear();
      words = absl::StrSplit(target, '/', absl::SkipEmpty());
      left.insert(left.begin(), words.begin(), words.end());
    }
    if (done.empty() && stat("/", object) != 0) return std::nullopt;
    return done;
  }

  void Want(const std::string& path, bool writable) {
    struct stat object = {};
    const std::optional<std::string> real = Follow(path, &object);
    if (!real) return;
    if (real->empty()) return WantEverything(writable);
    if (*real == "/proc" || IsBelow(*real, "/proc")) {
      // Of /proc there is what belongs to its own processes, and the rest for a manifest only.
      all_of_proc_ = all_of_proc_ || !IsSystemPath(path);
      return;
    }
    places_.push_back({.path = *real,
                       .writable = writable,
                       .device = S_ISCHR(object.st_mode) && IsSystemPath(path),
                       .tree = UniqueFd()});
  }
  static bool IsSystemPath(const std::string& path) {
    const auto system = SystemPaths();
    return std::any_of(system.begin(), system.end(), [&](const char* one) { return path == one; });
  }
  // The root itself can't be put into the new one; what is in it can.
  void WantEverything(bool writable) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/", error)) {
      if (entry.path() != "/proc" && entry.path() != "/dev") {
        Want(entry.path().string(), writable);
      }
    }
  }

  // Each place once: what is in a folder that is there is there. Writable places come last, and on
  // top of those that can be read.
  absl::Status OpenAll() {
    std::sort(places_.begin(), places_.end(), [](const Place& left, const Place& right) {
      return std::tie(left.writable, left.path) < std::tie(right.writable, right.path);
    });
    std::vector<Place> opened;
    for (Place& place : places_) {
      const bool covered = std::any_of(opened.begin(), opened.end(), [&](const Place& other) {
        return other.writable == place.writable && !place.device &&
               (other.path == place.path || IsBelow(place.path, other.path));
      });
      if (covered) continue;
      place.tree.reset(
          open_tree(AT_FDCWD, place.path.c_str(),
                    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW));
      if (!place.tree.valid()) return Failed(place.path);
      mount_attr attributes = {};
      attributes.attr_set = MOUNT_ATTR_NOSUID;
      if (!place.device) attributes.attr_set |= MOUNT_ATTR_NODEV;
      attributes.attr_set |= place.writable ? MOUNT_ATTR_NOEXEC : MOUNT_ATTR_RDONLY;
      if (mount_setattr(place.tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                        sizeof(attributes)) != 0) {
        return Failed(place.path);
      }
      opened.push_back(std::move(place));
    }
    places_ = std::move(opened);
    return absl::OkStatus();
  }

  void MakeLinks() {
    for (const Link& link : links_) {
      if (!MakeFolders(link.path.substr(0, link.path.rfind('/')))) continue;
      (void)symlinkat(link.target.c_str(), root_.get(), link.path.c_str() + 1);
    }
  }
  bool MakeFolders(const std::string& path) {
    for (size_t end = path.find('/', 1); !path.empty(); end = path.find('/', end + 1)) {
      const std::string folder = path.substr(1, end == path.npos ? end : end - 1);
      if (mkdirat(root_.get(), folder.c_str(), 0755) != 0 && errno != EEXIST) return false;
      if (end == path.npos) break;
    }
    return true;
  }
  // A file or a folder to mount on; it may be in one that is mounted already.
  absl::Status MakePoint(const Place& place) {
    struct stat object = {};
    if (fstat(place.tree.get(), &object) != 0) return Failed(place.path);
    const std::string above = place.path.substr(0, place.path.rfind('/'));
    if (S_ISDIR(object.st_mode)) {
      if (MakeFolders(place.path) || errno == EROFS) return absl::OkStatus();
    } else if (MakeFolders(above) || errno == EROFS) {
      const UniqueFd point(openat(root_.get(), place.path.c_str() + 1,
                                  O_CREAT | O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644));
      if (point.valid() || errno == EROFS || errno == EEXIST) return absl::OkStatus();
      struct stat there = {};
      if (fstatat(root_.get(), place.path.c_str() + 1, &there, AT_SYMLINK_NOFOLLOW) == 0) {
        return absl::OkStatus();
      }
    }
    return Failed(place.path);
  }

  void MakeProc(std::string* without_proc) {
    if (!MakeFolders("/proc")) return;
    NewFileSystem proc("proc");
    if (!all_of_proc_) proc.Set("subset", "pid");
    if (!contents_.own_processes) proc.Set("hidepid", "ptraceable");
    proc_ = proc.Make(kPlain | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY);
    if (!proc_.valid()) *without_proc = std::strerror(errno);
  }

  absl::Status MakeScratch() {
    if (contents_.scratch_bytes == 0) return absl::OkStatus();
    constexpr uint64_t kBytesPerFile = 4096;
    scratch_ = NewFileSystem("tmpfs")
                   .Set("mode", "700")
                   .Set("uid", absl::StrCat(contents_.user))
                   .Set("gid", absl::StrCat(contents_.group))
                   .Set("size", absl::StrCat(contents_.scratch_bytes))
                   .Set("nr_inodes", absl::StrCat(contents_.scratch_bytes / kBytesPerFile))
                   .Make(kPlain | MOUNT_ATTR_NOEXEC);
    if (!scratch_.valid() || !MakeFolders(kScratchFolder)) return Failed(kScratchFolder);
    return absl::OkStatus();
  }

  absl::Status Put(const UniqueFd& tree, const std::string& path) {
    if (move_mount(tree.get(), "", root_.get(), path.c_str() + 1, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
      return Failed(path);
    }
    return absl::OkStatus();
  }

  absl::Status PutRoot(const char* place) {
    if (move_mount(root_.get(), "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
      return Failed("its place");
    }
    return absl::OkStatus();
  }

  absl::Status Fill(std::string* without_proc) {
    MakeLinks();
    MakeProc(without_proc);
    if (absl::Status status = MakeScratch(); !status.ok()) return status;
    for (const Place& place : places_) {
      if (absl::Status status = MakePoint(place); !status.ok()) return status;
      if (absl::Status status = Put(place.tree, place.path); !status.ok()) return status;
    }
    if (proc_.valid()) {
      if (absl::Status status = Put(proc_, "/proc"); !status.ok()) return status;
    }
    if (scratch_.valid()) {
      if (absl::Status status = Put(scratch_, kScratchFolder); !status.ok()) return status;
    }
    mount_attr read_only = {};
    read_only.attr_set = MOUNT_ATTR_RDONLY;
    if (mount_setattr(root_.get(), "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) != 0) {
      return Failed("read-only");
    }
    return absl::OkStatus();
  }

  absl::Status Enter() {
    if (fchdir(root_.get()) != 0) return Failed("fchdir");
    // pivot_root(2): with both names the same, the old root ends up on top of the new one. The
    // first root of all, an initramfs, can't be moved: then it stays below, without a name.
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
      if (umount2(".", MNT_DETACH) != 0) return Failed("the old root");
    } else if (chroot(".") != 0) {
      return Failed("pivot_root");
    }
    return chdir("/") == 0 ? absl::OkStatus() : Failed("chdir");
  }

  const RootContents& contents_;
  UniqueFd root_, proc_, scratch_;
  std::vector<Link> links_;
  std::vector<Place> places_;
  bool all_of_proc_ = false;
};

}  // namespace

absl::Status EnterEmptyRoot(const RootContents& contents, std::string* without_proc) {
  return Builder(contents).Build(without_proc);
}

}  // namespace bulkhead
