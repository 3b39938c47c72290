// SPDX-License-Identifier: Apache-2.0
#include "host/cli/program.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace bulkhead {

std::string Program::HostPath() const { return folder + "/bulkhead-host"; }

int Complain(const absl::Status& status) {
  std::cerr << "bulkhead: " << status.message() << "\n";
  return kExitTrouble;
}

int Conclude(const Report& report, const std::string& json) {
  report.PrintTable(std::cout);
  std::cout.flush();
  if (!json.empty()) {
    if (absl::Status status = report.WriteJson(json); !status.ok()) return Complain(status);
  }
  return report.ExitCode();
}

absl::StatusOr<TemporaryFolder> TemporaryFolder::Create() {
  const char* base = std::getenv("TMPDIR");
  std::string path =
      absl::StrCat(base != nullptr && *base != '\0' ? base : "/tmp", "/bulkhead-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) return absl::ErrnoToStatus(errno, path);
  return TemporaryFolder(path);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  if (!path_.empty()) std::filesystem::remove_all(path_, error);
}

absl::Status MountPrivately(const std::string& folder) {
  if (unshare(CLONE_NEWNS) != 0) return absl::ErrnoToStatus(errno, "a mount namespace");
  // What is mounted here must not be seen, or undone, elsewhere.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return absl::ErrnoToStatus(errno, "private mounts");
  }
  if (mount("bulkhead", folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=512m") != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("a tmpfs on ", folder));
  }
  return absl::OkStatus();
}

}  // namespace bulkhead
