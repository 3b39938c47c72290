// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a driver's folder, as far as can be seen without running anything of it.
#ifndef BULKHEAD_HOST_CLI_DRIVER_FOLDER_CHECK_H_
#define BULKHEAD_HOST_CLI_DRIVER_FOLDER_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/supervisor/manifest.h"

namespace bulkhead {

struct DriverFinding {
  std::string file;  // relative to the folder: "manifest.json"; "": the folder itself
  TextPlace place;   // in the file; line 0: nowhere in particular
  std::string text;  // what is wrong, and what to do
  // "manifest.json:4:3: text"
  std::string Line() const;
};

struct DriverFolderReading {
  Manifest manifest;
  bool manifest_good = false;  // what it says can be used
  bool content_good = true;    // its default content, where it names one
  bool library_good = false;   // it can be loaded, as far as its bytes tell
  std::vector<DriverFinding> findings;
};

// NotFound, PermissionDenied …: the folder can't be looked at.
absl::StatusOr<DriverFolderReading> CheckDriverFolder(const std::string& folder);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_DRIVER_FOLDER_CHECK_H_
