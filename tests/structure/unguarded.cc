// SPDX-License-Identifier: Apache-2.0
//
// Must not compile with clang: the member is read without its lock (see CMakeLists.txt).
#include "ipc/mutex.h"

namespace bulkhead {
namespace {

struct Counter {
  Mutex mutex;
  int count ABSL_GUARDED_BY(mutex) = 0;
};

}  // namespace

int ReadUnguarded() {
  static Counter counter;
  return counter.count;
}

}  // namespace bulkhead
