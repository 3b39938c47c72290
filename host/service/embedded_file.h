// SPDX-License-Identifier: Apache-2.0
//
// A file of the tree that the build puts into the program (cmake/embed.cmake).
#ifndef BULKHEAD_HOST_SERVICE_EMBEDDED_FILE_H_
#define BULKHEAD_HOST_SERVICE_EMBEDDED_FILE_H_

#include <span>
#include <string_view>

namespace bulkhead {

struct EmbeddedFile {
  std::string_view name;
  std::string_view text;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_EMBEDDED_FILE_H_
