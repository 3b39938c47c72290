// SPDX-License-Identifier: Apache-2.0
//
// Mutex, MutexLock, CondVar: std::mutex and std::condition_variable with the annotations that
// clang's thread safety analysis checks (the preset tsan; GUARDED_BY and its like come from
// Abseil). Not absl::Mutex: Debian's Abseil is built without ThreadSanitizer, which does not see
// what that orders.
#ifndef BULKHEAD_IPC_MUTEX_H_
#define BULKHEAD_IPC_MUTEX_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "ipc/monotonic.h"

namespace bulkhead {

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) { return mutex_.try_lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_.Lock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }

 private:
  Mutex& mutex_;
};

// Waits may end without a cause: check the condition in a loop.
class CondVar {
 public:
  void NotifyOne() { changed_.notify_one(); }
  void NotifyAll() { changed_.notify_all(); }

  void Wait(Mutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    changed_.wait(lock);
    lock.release();
  }
  // False when until_ns (CLOCK_MONOTONIC; kForeverNs: no limit) has passed.
  bool WaitUntil(Mutex& mutex, uint64_t until_ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (until_ns == kForeverNs) {
      Wait(mutex);
      return true;
    }
    const uint64_t now_ns = MonotonicNowNs();
    if (now_ns >= until_ns) return false;
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    changed_.wait_for(lock, std::chrono::nanoseconds(until_ns - now_ns));
    lock.release();
    return true;
  }

 private:
  std::condition_variable changed_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_MUTEX_H_
