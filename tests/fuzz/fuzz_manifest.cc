// SPDX-License-Identifier: Apache-2.0
//
// Manifests: any text is refused with a reason, or gives a manifest whose fields keep their bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "host/supervisor/manifest.h"
#include "ipc/abi/channel.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  const auto manifest = bulkhead::ParseManifest({reinterpret_cast<const char*>(data), bytes});
  if (!manifest.ok()) {
    if (manifest.status().message().empty()) std::abort();
    return 0;
  }
  if (manifest->name.empty() || manifest->name.size() > 32 || manifest->callbacks == 0 ||
      manifest->workers < 1 || manifest->workers > BH_WORKERS_MAX ||
      manifest->checkpoint_bytes > 1u << 20 || manifest->library.empty() ||
      manifest->library.front() == '/' || manifest->library.find('\0') != std::string::npos) {
    std::abort();
  }
  return 0;
}
