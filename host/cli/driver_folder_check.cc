// SPDX-License-Identifier: Apache-2.0
#include "host/cli/driver_folder_check.h"

#include <bulkhead/driver.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "host/process/elf_file.h"
#include "host/supervisor/host_user.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

constexpr char kManifestFile[] = "manifest.json";
constexpr int kFilesMax = 10'000;  // as ChooseHostUser() looks at

class Check {
 public:
  explicit Check(fs::path folder) : folder_(std::move(folder)) {}

  absl::StatusOr<DriverFolderReading> Run() {
    if (absl::Status status = ReadTheManifest(); !status.ok()) return status;
    CheckName();
    CheckLibrary();
    CheckContent();
    CheckRights();
    return std::move(reading_);
  }

 private:
  template <typename... Words>
  void Find(const std::string& file, const Words&... words) {
    reading_.findings.push_back({.file = file, .place = {}, .text = absl::StrCat(words...)});
  }

  absl::Status ReadTheManifest() {
    absl::StatusOr<std::string> text = ManifestTextOf(folder_.string());
    if (absl::IsNotFound(text.status())) {
      Find(kManifestFile, "is not there; a driver's folder has one (docs/manifest.md)");
      return absl::OkStatus();
    }
    if (!text.ok()) return text.status();
    ManifestReading read = ReadManifest(*text);
    reading_.manifest = std::move(read.manifest);
    reading_.manifest.folder = folder_.string();
    reading_.manifest_good = read.problems.empty();
    for (const ManifestProblem& problem : read.problems) {
      reading_.findings.push_back(
          {.file = kManifestFile, .place = problem.place, .text = problem.Sentence()});
    }
    return absl::OkStatus();
  }

  // A search by name looks for a folder of that name.
  void CheckName() {
    const std::string& name = reading_.manifest.name;
    const std::string called = folder_.filename().string();
    if (!GoodDriverName(name) || called == name) return;
    Find("", "is called '", called, "', and its driver '", name, "': 'bulkhead run --driver ", name,
         "' does not find it; rename one of them");
  }

  void CheckLibrary() {
    const std::string& library = reading_.manifest.library;
    if (library.empty()) return;
    const fs::path path = folder_ / library;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) {
      return Find(library, "is not there, and the manifest names it as \"library\": build it");
    }
    const absl::StatusOr<ElfFile> elf = ElfFile::Read(path.string());
    if (!elf.ok()) {
      absl::string_view what = elf.status().message();
      absl::ConsumePrefix(&what, path.string());
      return Find(library, std::string(absl::StripPrefix(absl::StripPrefix(what, ": "), " ")));
    }
    if (elf->has_symbols() && !elf->Defines(BULKHEAD_DRIVER_ENTRY)) {
      return Find(library, "has no entry point ", BULKHEAD_DRIVER_ENTRY,
                  "(); export it (BULKHEAD_DRIVER in driver.hpp does)");
    }
    reading_.library_good = true;
  }

  void CheckContent() {
    const Manifest& manifest = reading_.manifest;
    if (manifest.content_default.empty()) return;
    const fs::path path = folder_ / manifest.content_default;
    reading_.content_good = false;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) {
      return Find(manifest.content_default,
                  "is not there, and the manifest names it as \"default_path\" of its content");
    }
    if (!fs::is_directory(status)) {
      return Find(manifest.content_default, "is no folder: content is a folder of files");
    }
    if (manifest.content_required && fs::is_empty(path, error)) {
      return Find(manifest.content_default, "is empty, and the manifest requires content");
    }
    reading_.content_good = true;
  }

  // A host of another user must read the package; nobody else may write it.
  void CheckRights() {
    if (const absl::Status open = IsOpenToOthers(folder_.string() + "/");
        absl::IsPermissionDenied(open)) {
      Find("", "can't be reached by a host's own user: ", std::string(open.message()),
           " (chmod o+x, or install it elsewhere)");
    }
    CheckMode("", folder_);
    int left = kFilesMax;
    std::error_code error;
    fs::recursive_directory_iterator entry(folder_, error), end;
    for (; !error && entry != end; entry.increment(error)) {
      const std::string name = entry->path().lexically_relative(folder_).string();
      if (--left < 0) return Find("", "has more than ", kFilesMax, " files: is it a driver's?");
      if (!entry->is_symlink(error)) CheckMode(name, entry->path());
    }
    if (error) Find("", "can't be listed: ", error.message());
  }

  void CheckMode(const std::string& name, const fs::path& path) {
    struct stat object = {};
    if (lstat(path.c_str(), &object) != 0) return;
    const bool is_folder = S_ISDIR(object.st_mode);
    const mode_t wanted = S_IROTH | (is_folder ? S_IXOTH : 0u);
    if ((object.st_mode & wanted) != wanted) {
      Find(name, "can't be read by a host's own user: chmod o+r", is_folder ? "x" : "");
    }
    const bool sticky = is_folder && (object.st_mode & S_ISVTX) != 0;
    if ((object.st_mode & S_IWOTH) != 0 && !sticky) {
      Find(name, "can be written by every user, who would then be the driver: chmod o-w");
    }
  }

  const fs::path folder_;
  DriverFolderReading reading_;
};

}  // namespace

std::string DriverFinding::Line() const {
  std::string line = file;
  if (place.line != 0) absl::StrAppend(&line, ":", place.line, ":", place.column);
  return absl::StrCat(line, line.empty() ? "the folder " : ": ", text);
}

absl::StatusOr<DriverFolderReading> CheckDriverFolder(const std::string& folder) {
  std::error_code error;
  const fs::path path = fs::canonical(folder, error);
  if (error) {
    return error == std::errc::permission_denied
               ? absl::PermissionDeniedError(absl::StrCat(folder, ": ", error.message()))
               : absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  }
  if (!fs::is_directory(path, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, " is no folder; give a driver's folder, which has its manifest.json"));
  }
  if (access(path.c_str(), R_OK | X_OK) != 0) {
    return absl::PermissionDeniedError(absl::StrCat(folder, ": ", std::strerror(errno)));
  }
  return Check(path).Run();
}

}  // namespace bulkhead
