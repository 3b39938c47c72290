// SPDX-License-Identifier: Apache-2.0
//
// Files of the tree that the build puts into the program (cmake/embed.cmake).
#ifndef BULKHEAD_HOST_CLI_EMBEDDED_FILE_H_
#define BULKHEAD_HOST_CLI_EMBEDDED_FILE_H_

#include <span>
#include <string_view>

namespace bulkhead {

struct EmbeddedFile {
  std::string_view name;
  std::string_view text;
};

// host/cli/templates: a driver's project.
std::span<const EmbeddedFile> DriverTemplates();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_EMBEDDED_FILE_H_
