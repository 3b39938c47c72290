// SPDX-License-Identifier: Apache-2.0
//
// SharedObject: a zeroed T in anonymous memory that a process shares with the processes that it
// forks. It has no name, so nothing is left behind.
// REQUIRES: zeroed memory is a valid T.
#ifndef BULKHEAD_BENCH_PEERS_SHARED_OBJECT_H_
#define BULKHEAD_BENCH_PEERS_SHARED_OBJECT_H_

#include <sys/mman.h>

#include <cerrno>
#include <type_traits>

#include "absl/status/status.h"

namespace bulkhead {

template <typename T>
class SharedObject {
 public:
  SharedObject() = default;
  SharedObject(const SharedObject&) = delete;
  SharedObject& operator=(const SharedObject&) = delete;
  ~SharedObject() {
    if (object_ != nullptr) munmap(object_, sizeof(T));
  }

  absl::Status Map() {
    static_assert(std::is_trivially_destructible_v<T>);
    // Populated: a page fault would otherwise be part of a measurement.
    void* memory = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "shared memory");
    object_ = static_cast<T*>(memory);
    return absl::OkStatus();
  }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }

 private:
  T* object_ = nullptr;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEERS_SHARED_OBJECT_H_
