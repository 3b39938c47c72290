// SPDX-License-Identifier: Apache-2.0
//
// Manifests: any text is refused with a reason, or gives a manifest with all fields in their
// bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "host/supervisor/manifest.h"
#include "ipc/abi/channel.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  // The empty text stands for one that is too long.
  static const std::string long_text(1 << 20, ' ');
  const auto manifest = bulkhead::ParseManifest(
      bytes != 0 ? std::string_view(reinterpret_cast<const char*>(data), bytes) : long_text);
  if (!manifest.ok()) {
    if (manifest.status().message().empty()) std::abort();
    return 0;
  }
  if (manifest->name.empty() || manifest->name.size() > 32 ||
      bh_set_empty(&manifest->callbacks) != 0 || manifest->workers < 1 ||
      manifest->workers > BH_WORKERS_MAX || manifest->checkpoint_bytes > 1u << 20 ||
      manifest->library.empty() || manifest->library.front() == '/' ||
      manifest->library.find('\0') != std::string::npos || manifest->scratch_mib > 1u << 16) {
    std::abort();
  }
  for (const std::string& path : manifest->writes) {
    if (path.find_first_not_of('/') == std::string::npos || path.front() != '/') std::abort();
  }
  return 0;
}
