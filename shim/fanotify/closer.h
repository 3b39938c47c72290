// SPDX-License-Identifier: Apache-2.0
//
// Closer: closes files of file systems whose close may wait for a file server (FUSE flushes at
// each close), on threads of its own. Its owner waits for none of them.
//
// Close() may be called from any thread. Lives as long as the process.
#ifndef BULKHEAD_SHIM_FANOTIFY_CLOSER_H_
#define BULKHEAD_SHIM_FANOTIFY_CLOSER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>

namespace bulkhead {

class Closer {
 public:
  // So many files may stand still in their close before the next ones wait for them.
  static constexpr uint32_t kThreadsMax = 8;
  // With so many that wait, no further files are to be opened.
  static constexpr size_t kWaitingMax = 64;

  // Takes the descriptor.
  void Close(int descriptor);
  // Those that wait to be closed. SUBTLE: relaxed, possibly a moment old.
  uint32_t waiting() const { return count_.load(std::memory_order_relaxed); }
  // Waits, for a moment, until less than kWaitingMax wait. False: they do still.
  bool HasRoom();

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<int> waiting_;
  std::atomic<uint32_t> count_{0};  // of these, and of those that are being closed
  uint32_t threads_ = 0;
  uint32_t idle_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_CLOSER_H_
