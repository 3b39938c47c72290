// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/content_copy.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

constexpr int kDepthMax = 64;
constexpr size_t kCompareBytes = 1 << 16;

absl::Status Trouble(const std::string& path) { return absl::ErrnoToStatus(errno, path); }

class Copier {
 public:
  Copier(const CopyLimits& limits, ContentReader reader, std::string top, UniqueFd top_folder)
      : limits_(limits),
        reader_(reader),
        top_(std::move(top)),
        top_folder_(std::move(top_folder)) {}

  absl::Status Folder(UniqueFd from, const UniqueFd& to, const std::string& name, int depth) {
    if (depth > kDepthMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat(name, " is too deep for content: at most ", kDepthMax, " folders"));
    }
    const int folder = from.get();
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(fdopendir(folder), closedir);
    if (entries == nullptr) return Trouble(name);
    (void)from.release();  // the list's now
    for (;;) {
      errno = 0;
      const dirent* entry = readdir(entries.get());
      if (entry == nullptr) return errno == 0 ? absl::OkStatus() : Trouble(name);
      const std::string_view entry_name = entry->d_name;
      if (entry_name == "." || entry_name == "..") continue;
      if (absl::Status status = Entry(folder, to, entry->d_name, name, depth); !status.ok()) {
        return status;
      }
    }
  }

  // To its readers, as a file of this mode was.
  absl::Status Open(const UniqueFd& copy, mode_t mode, const std::string& path) const {
    if (reader_ == 0)
      return fchmod(copy.get(), mode & 0777) == 0 ? absl::OkStatus() : Trouble(path);
    if (fchown(copy.get(), static_cast<uid_t>(-1), reader_) != 0 ||
        fchmod(copy.get(), (mode & 0700) | ((mode & 0500) >> 3)) != 0) {
      return Trouble(path);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Entry(int from, const UniqueFd& to, const char* entry, const std::string& name,
                     int depth) {
    const std::string path = absl::StrCat(name, "/", entry);
    // Not blocking: it may be a pipe.
    UniqueFd file(openat(from, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat object = {};
    if (!file.valid() && errno == ELOOP) {
      file = Linked(path);
      if (!file.valid() || fstat(file.get(), &object) != 0 || !S_ISREG(object.st_mode)) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, " is a symbolic link that leads out of ", top_,
                         " or to no file: put a copy of what it names in its place"));
      }
    }
    // A socket, or a device of none; gone.
    if (!file.valid() && (errno == ENXIO || errno == ENODEV || errno == ENOENT)) {
      return absl::OkStatus();
    }
    if (!file.valid() || fstat(file.get(), &object) != 0) return Trouble(path);
    if (S_ISDIR(object.st_mode)) {
      if (mkdirat(to.get(), entry, 0700) != 0) return Trouble(path);
      const UniqueFd below(openat(to.get(), entry, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!below.valid()) return Trouble(path);
      if (absl::Status status = Folder(std::move(file), below, path, depth + 1); !status.ok()) {
        return status;
      }
      return Open(below, object.st_mode, path);
    }
    if (!S_ISREG(object.st_mode)) return absl::OkStatus();
    const UniqueFd copy(openat(to.get(), entry, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!copy.valid()) return Trouble(path);
    if (absl::Status status = Open(copy, object.st_mode, path); !status.ok()) return status;
    return ++files_ > limits_.files ? TooLarge() : Bytes(file, copy, path);
  }

  // What the link names, if that lies in the folder that is copied.
  UniqueFd Linked(const std::string& path) const {
    open_how how = {};
    how.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    return UniqueFd(static_cast<int>(syscall(SYS_openat2, top_folder_.get(),
                                             path.c_str() + top_.size() + 1, &how, sizeof(how))));
  }

  absl::Status Bytes(const UniqueFd& from, const UniqueFd& to, const std::string& path) {
    for (;;) {
      const ssize_t bytes = read(from.get(), buffer_.data(), buffer_.size());
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0) return Trouble(path);
      if (bytes == 0) return absl::OkStatus();
      bytes_ += static_cast<uint64_t>(bytes);
      if (bytes_ > limits_.bytes) return TooLarge();
      for (ssize_t written = 0; written < bytes;) {
        const ssize_t part =
            write(to.get(), buffer_.data() + written, static_cast<size_t>(bytes - written));
        if (part < 0 && errno != EINTR) return Trouble(path);
        if (part > 0) written += part;
      }
    }
  }

  absl::Status TooLarge() const {
    return absl::ResourceExhaustedError(absl::StrCat(top_, " is too large for content: at most ",
                                                     limits_.files, " files and ",
                                                     limits_.bytes >> 20, " MiB"));
  }

  const CopyLimits limits_;
  const ContentReader reader_;
  const std::string top_;
  const UniqueFd top_folder_;
  size_t files_ = 0;
  uint64_t bytes_ = 0;
  std::array<char, 65536> buffer_;
};

}  // namespace

absl::StatusOr<UniqueFd> OpenContent(const std::string& content, const std::string& inside) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  UniqueFd folder;
  if (!inside.empty() && content.starts_with(inside + "/")) {
    const UniqueFd top(open(inside.c_str(), kFlags));
    if (!top.valid()) return Trouble(inside);
    open_how how = {};
    how.flags = kFlags;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    const std::string below = content.substr(inside.size() + 1);
    folder.reset(
        static_cast<int>(syscall(SYS_openat2, top.get(), below.c_str(), &how, sizeof(how))));
  } else {
    folder.reset(open(content.c_str(), kFlags));
  }
  if (folder.valid()) return folder;
  switch (errno) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(
          absl::StrCat(content, ": no such folder; content is a folder of files"));
    case EXDEV:
      return absl::InvalidArgumentError(
          absl::StrCat(content, " leads out of ", inside, ": name the folder itself"));
    default:
      return Trouble(content);
  }
}

bool SameContent(const std::string& a, const std::string& b) {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto files = [&error](const std::string& folder) {
    std::map<std::string, uintmax_t> found;
    if (folder.empty()) return found;
    for (auto entry = fs::recursive_directory_iterator(folder, error);
         !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
      if (!entry->is_regular_file(error)) continue;
      found.emplace(entry->path().lexically_relative(folder).string(), entry->file_size(error));
    }
    return found;
  };
  const auto of_a = files(a), of_b = files(b);
  if (error || of_a != of_b || a.empty() != b.empty()) return false;
  std::vector<char> bytes_a(kCompareBytes), bytes_b(kCompareBytes);
  for (const auto& [name, size] : of_a) {
    std::ifstream file_a(fs::path(a) / name, std::ios::binary);
    std::ifstream file_b(fs::path(b) / name, std::ios::binary);
    for (uintmax_t left = size; left != 0;) {
      const auto part = static_cast<std::streamsize>(std::min<uintmax_t>(left, kCompareBytes));
      if (!file_a.read(bytes_a.data(), part) || !file_b.read(bytes_b.data(), part)) return false;
      if (!std::equal(bytes_a.begin(), bytes_a.begin() + part, bytes_b.begin())) return false;
      left -= static_cast<uintmax_t>(part);
    }
  }
  return true;
}

absl::Status CopyContent(UniqueFd from, const std::string& name, const std::string& to,
                         const CopyLimits& limits, ContentReader reader) {
  const UniqueFd target(open(to.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!target.valid()) return Trouble(to);
  UniqueFd top(fcntl(from.get(), F_DUPFD_CLOEXEC, 0));
  if (!top.valid()) return Trouble(name);
  // It has a buffer.
  const auto copier = std::make_unique<Copier>(limits, reader, name, std::move(top));
  if (absl::Status status = copier->Open(target, 0700, to); !status.ok()) return status;
  return copier->Folder(std::move(from), target, name, 1);
}

}  // namespace bulkhead
