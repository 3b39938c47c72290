// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_RELEASE_H_
#define BULKHEAD_HOST_SUPERVISOR_RELEASE_H_

#include <cstdint>
#include <string>

#include "host/supervisor/manifest.h"

namespace bulkhead {

// Counted from 1 for each driver; 0: none.
using ReleaseId = uint64_t;

// Release: what a host is started with. A value; nothing of it changes once it has its id.
struct Release {
  ReleaseId id = 0;
  Manifest driver;
  std::string content_folder;  // the private copy; empty: no content
  std::string content_source;  // the folder that the operator named
  std::string options;         // the manifest's, then the operator's

  // As hosts and status name it. 0: no content.
  uint64_t content_version() const { return content_folder.empty() ? 0 : id; }
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_RELEASE_H_
