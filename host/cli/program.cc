// SPDX-License-Identifier: Apache-2.0
#include "host/cli/program.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "host/report/atomic_file.h"
#include "host/service/bounded_write.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

// Who does not read standard error does not keep a process from ending.
constexpr uint64_t kComplainWithinNs = kNanosecondsPerSecond;

}  // namespace

int Complain(const absl::Status& status) {
  // It may quote a driver, a manifest or a file's name.
  const std::string line =
      absl::StrCat("bulkhead: ", Printable(std::string(status.message())), "\n");
  std::string_view rest = line;
  (void)WriteUntil(STDERR_FILENO, rest, MonotonicAfterNs(kComplainWithinNs));
  return kExitTrouble;
}

int Conclude(const Report& report, const std::string& json) {
  if (json != kStandardOutput) report.PrintTable(std::cout);
  std::cout.flush();
  if (!json.empty()) {
    if (absl::Status status = report.WriteJson(json); !status.ok()) return Complain(status);
  }
  return report.ExitCode();
}

std::string ReportPathTrouble(const std::string& path) {
  namespace fs = std::filesystem;
  if (path == kStandardOutput) return "";
  if (std::string trap = TrapAt(path); !trap.empty()) return trap;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) return absl::StrCat(path, " is a folder; name a file in it");
  if (!fs::exists(status) && fs::is_symlink(fs::symlink_status(path, error))) {
    return absl::StrCat(path, " is a symbolic link to nothing; name another file");
  }
  fs::path target = fs::canonical(path, error);  // a symbolic link is followed
  if (error) target = path;
  fs::path folder = target.parent_path();
  if (folder.empty()) folder = ".";
  if (!fs::is_directory(folder, error)) {
    return absl::StrCat("there is no folder ", folder.string(), "; make it, or name another file");
  }
  // Else it is replaced by one made beside it.
  const bool in_place = IsWrittenInPlace(path);
  const std::string written = in_place ? path : folder.string();
  if (access(written.c_str(), in_place ? W_OK : W_OK | X_OK) != 0) {
    return absl::StrCat("can't write to ", written, " (", std::strerror(errno),
                        "); name another file");
  }
  return "";
}

}  // namespace bulkhead
