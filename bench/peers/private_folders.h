// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_PEERS_PRIVATE_FOLDERS_H_
#define BULKHEAD_BENCH_PEERS_PRIVATE_FOLDERS_H_

#include "absl/status/status.h"

namespace bulkhead {

// Gives this process, and the processes that it starts from now on, a /tmp and a /dev/shm of their
// own, in a mount namespace that ends with the last of them: for libraries with fixed names there.
// Unavailable where the machine forbids it.
// REQUIRES: one thread.
absl::Status MakeFoldersPrivate();

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_PRIVATE_FOLDERS_H_
