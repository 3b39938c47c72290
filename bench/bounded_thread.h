// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_BOUNDED_THREAD_H_
#define BULKHEAD_BENCH_BOUNDED_THREAD_H_

#include <cstdint>
#include <functional>
#include <thread>
#include <utility>

#include "bench/bounded_wait.h"
#include "ipc/abi/atomics.h"
#include "ipc/futex.h"

namespace bulkhead {

// A thread of a benchmark, whose end is awaited within a bound. It does not move: the thread stores
// its end here.
class BoundedThread {
 public:
  BoundedThread() = default;
  BoundedThread(const BoundedThread&) = delete;
  BoundedThread& operator=(const BoundedThread&) = delete;
  ~BoundedThread() { Join("the end of a thread"); }

  // REQUIRES: it runs nothing.
  void Start(std::function<void()> run) {
    ended_ = 0;
    thread_ = std::thread([this, run = std::move(run)] {
      run();
      bh_store_release(&ended_, 1u);
      FutexWake(&ended_, FutexScope::kShared, kFutexWakeAll);
    });
  }

  // `what` as in "the end of the callers". A thread that is not there has ended.
  void Join(const char* what, uint64_t bound_ns = kWaitBoundNs) {
    if (!thread_.joinable()) return;
    SleepUntilChanged(what, &ended_, 0, bound_ns);
    thread_.join();  // it runs nothing of ours any more
  }

 private:
  uint32_t ended_ = 0;  // futex word
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_BOUNDED_THREAD_H_
