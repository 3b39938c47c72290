// SPDX-License-Identifier: Apache-2.0
//
// bulkhead-shim-fanotify: the shim process of the fanotify attachment. Started by a supervisor,
// with the descriptors of keeper_protocol.h; not for use from a shell.
#include <cstdio>

#include "ipc/descriptor_table.h"
#include "shim/fanotify/keeper.h"

namespace {

// The kernel opens one for each event: more than wait at a time, but for a burst.
constexpr rlim_t kEventDescriptors = 4096;

}  // namespace

int main() {
  bulkhead::ReserveDescriptors(kEventDescriptors);
  absl::StatusOr<std::unique_ptr<bulkhead::Keeper>> keeper = bulkhead::Keeper::Create();
  if (!keeper.ok()) {
    std::fprintf(stderr, "bulkhead-shim-fanotify is started by `bulkhead run`, not by hand (%s)\n",
                 keeper.status().ToString().c_str());
    return 2;
  }
  return (*keeper)->Run();
}
