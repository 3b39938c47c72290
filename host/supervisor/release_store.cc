// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/release_store.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

absl::Status Trouble(const fs::path& path, const std::error_code& error) {
  return absl::ErrnoToStatus(error.value(), path.string());
}

}  // namespace

ReleaseStore::~ReleaseStore() {
  std::error_code error;
  fs::remove_all(folder_, error);
}

absl::Status ReleaseStore::Copy(const Manifest& driver, const std::string& from,
                                const std::string& to) const {
  absl::StatusOr<UniqueFd> content = OpenContent(from, driver.folder);
  if (!content.ok()) return content.status();
  std::error_code error;
  const fs::path making = folder_ + "/making";
  fs::remove_all(making, error);
  fs::create_directories(making, error);
  if (!error) fs::permissions(folder_, fs::perms(0711), error);  // the names in it are known
  if (error) return Trouble(making, error);
  absl::Status status = CopyContent(*std::move(content), from, making,
                                    {.files = kFilesMax, .bytes = kBytesMax}, reader_);
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
    absl::Status status = Copy(driver, content, release->content_folder);
    if (!status.ok()) return status;
  }
  const MutexLock lock(mutex_);
  newest_ = release->id;
  releases_[release->id] = release;
  return std::shared_ptr<const Release>(std::move(release));
}

void ReleaseStore::Adopt(Release release, ReleaseId newest) {
  const MutexLock lock(mutex_);
  newest_ = std::max({newest_, newest, release.id});
  const ReleaseId id = release.id;
  releases_[id] = std::make_shared<const Release>(std::move(release));
}

void ReleaseStore::RemoveOthers() {
  std::set<std::string> kept;
  {
    const MutexLock lock(mutex_);
    for (const auto& [id, release] : releases_) kept.insert(release->content_folder);
  }
  std::error_code error;
  std::vector<fs::path> others;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, error)) {
    if (kept.count(entry.path().string()) == 0) others.push_back(entry.path());
  }
  for (const fs::path& other : others) fs::remove_all(other, error);
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

void ReleaseStore::DropUnless(const std::function<bool(ReleaseId)>& needed) {
  const MutexLock lock(mutex_);
  for (auto release = releases_.begin(); release != releases_.end();) {
    if (needed(release->first)) {
      ++release;
      continue;
    }
    const std::string& copy = release->second->content_folder;
    if (!copy.empty()) dropped_.push_back(copy);
    release = releases_.erase(release);
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
