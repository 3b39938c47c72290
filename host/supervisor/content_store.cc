// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/content_store.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
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
      if (++files > ContentStore::kFilesMax || bytes > ContentStore::kBytesMax) {
        return absl::ResourceExhaustedError(absl::StrCat(
            from.string(), " is too large for content: at most ", ContentStore::kFilesMax,
            " files and ", ContentStore::kBytesMax >> 20, " MiB"));
      }
      fs::copy_file(entry->path(), target, error);
    }
    if (error) return Trouble(entry->path(), error);
  }
  return error ? Trouble(from, error) : absl::OkStatus();
}

}  // namespace

ContentStore::~ContentStore() {
  std::error_code error;
  fs::remove_all(folder_, error);
}

std::string ContentStore::Path(uint64_t version) const {
  return version == 0 ? "" : absl::StrCat(folder_, "/", version);
}

absl::StatusOr<uint64_t> ContentStore::Add(const std::string& from) {
  std::error_code error;
  if (!fs::is_directory(from, error)) {
    return absl::NotFoundError(
        absl::StrCat(from, ": no such folder; content is a folder of files"));
  }
  const uint64_t version = newest_ + 1;
  const fs::path making = folder_ + "/making";
  fs::remove_all(making, error);
  fs::create_directories(making, error);
  if (error) return Trouble(making, error);
  absl::Status status = CopyTree(from, making);
  if (status.ok()) {
    fs::rename(making, Path(version), error);
    if (error) status = Trouble(making, error);
  }
  if (!status.ok()) {
    fs::remove_all(making, error);
    return status;
  }
  newest_ = version;
  return version;
}

void ContentStore::DropBefore(uint64_t version) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, error)) {
    uint64_t found;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &found)) continue;
    if (found < version) fs::remove_all(entry.path(), error);
  }
}

}  // namespace bulkhead
