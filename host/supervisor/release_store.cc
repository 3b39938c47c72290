// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/release_store.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

absl::Status Trouble(const fs::path& path, const std::error_code& error) {
  const std::string text = absl::StrCat(path.string(), ": ", error.message());
  if (error == std::errc::no_such_file_or_directory) return absl::NotFoundError(text);
  if (error == std::errc::permission_denied) return absl::PermissionDeniedError(text);
  if (error == std::errc::no_space_on_device) return absl::ResourceExhaustedError(text);
  return absl::UnknownError(text);
}

absl::Status CopyTree(const fs::path& from, const fs::path& to) {
  std::error_code error;
  size_t files = 0;
  uint64_t bytes = 0;
  fs::recursive_directory_iterator entry(from, error);
  if (error) return Trouble(from, error);
  for (const fs::recursive_directory_iterator end; entry != end; entry.increment(error)) {
    if (error) return Trouble(from, error);
    const fs::file_status status = entry->symlink_status(error);
    if (error) return Trouble(entry->path(), error);
    const fs::path target = to / entry->path().lexically_relative(from);
    if (fs::is_directory(status)) {
      fs::create_directory(target, error);
    } else if (fs::is_regular_file(status)) {
      bytes += entry->file_size(error);
      if (++files > ReleaseStore::kFilesMax || bytes > ReleaseStore::kBytesMax) {
        return absl::ResourceExhaustedError(absl::StrCat(
            from.string(), " is too large for content: at most ", ReleaseStore::kFilesMax,
            " files and ", ReleaseStore::kBytesMax >> 20, " MiB"));
      }
      fs::copy_file(entry->path(), target, error);
    }
    if (error) return Trouble(entry->path(), error);
  }
  return error ? Trouble(from, error) : absl::OkStatus();
}

}  // namespace

ReleaseStore::~ReleaseStore() {
  std::error_code error;
  fs::remove_all(folder_, error);
}

absl::Status ReleaseStore::Copy(const std::string& from, const std::string& to) const {
  std::error_code error;
  if (!fs::is_directory(from, error)) {
    return absl::NotFoundError(
        absl::StrCat(from, ": no such folder; content is a folder of files"));
  }
  const fs::path making = folder_ + "/making";
  fs::remove_all(making, error);
  fs::create_directories(making, error);
  if (error) return Trouble(making, error);
  absl::Status status = CopyTree(from, making);
  if (status.ok()) {
    fs::rename(making, to, error);
    if (error) status = Trouble(making, error);
  }
  if (!status.ok()) fs::remove_all(making, error);
  return status;
}

absl::StatusOr<std::shared_ptr<const Release>> ReleaseStore::Add(const Manifest& driver,
                                                                 const std::string& content,
                                                                 const std::string& options) {
  RemoveDropped();
  auto release = std::make_shared<Release>();
  {
    const MutexLock lock(mutex_);
    release->id = newest_ + 1;
  }
  release->driver = driver;
  release->options = options;
  if (!content.empty()) {
    release->content_source = content;
    release->content_folder = absl::StrCat(folder_, "/", release->id);
    if (absl::Status status = Copy(content, release->content_folder); !status.ok()) return status;
  }
  const MutexLock lock(mutex_);
  newest_ = release->id;
  releases_[release->id] = release;
  return std::shared_ptr<const Release>(std::move(release));
}

void ReleaseStore::RemoveDropped() {
  std::vector<std::string> dropped;
  {
    const MutexLock lock(mutex_);
    dropped.swap(dropped_);
  }
  std::error_code error;
  for (const std::string& copy : dropped) fs::remove_all(copy, error);
}

std::shared_ptr<const Release> ReleaseStore::Get(ReleaseId id) const {
  const MutexLock lock(mutex_);
  const auto found = releases_.find(id);
  return found == releases_.end() ? nullptr : found->second;
}

void ReleaseStore::DropBefore(ReleaseId id) {
  const MutexLock lock(mutex_);
  while (!releases_.empty() && releases_.begin()->first < id) {
    const std::string& copy = releases_.begin()->second->content_folder;
    if (!copy.empty()) dropped_.push_back(copy);
    releases_.erase(releases_.begin());
  }
}

std::string ReleaseStore::NameSources(std::string text) const {
  const MutexLock lock(mutex_);
  for (const auto& [id, release] : releases_) {
    const std::string& copy = release->content_folder;
    if (copy.empty()) continue;
    for (size_t at = 0; (at = text.find(copy, at)) != std::string::npos;) {
      const size_t end = at + copy.size();
      const bool is_another =  // 12 begins with 1
          end < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[end]));
      if (!is_another) text.replace(at, copy.size(), release->content_source);
      at += is_another ? copy.size() : release->content_source.size();
    }
  }
  return text;
}

}  // namespace bulkhead
