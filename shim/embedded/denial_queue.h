// SPDX-License-Identifier: Apache-2.0
//
// DenialQueue: passes the records of denials from callers' threads to one that may block.
//
// Post() is on the path of a call that is denied, or audited: it waits only for short critical
// sections, allocates nothing, and opens files in /proc only, where the caller's name is looked up
// while the caller still waits. The queue is bounded; what finds no room is refused, for its caller
// to count. The core bounds how many come in a second.
#ifndef BULKHEAD_SHIM_EMBEDDED_DENIAL_QUEUE_H_
#define BULKHEAD_SHIM_EMBEDDED_DENIAL_QUEUE_H_

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "shim/core/bulkhead_core.h"

namespace bulkhead {

class DenialQueue {
 public:
  static constexpr size_t kCapacity = 128;

  // `deliver` runs on the queue's own thread, one record at a time. It may take its time.
  explicit DenialQueue(std::function<void(uint32_t channel, const bh_denial&)> deliver);
  // Delivers what is queued, then ends the thread.
  ~DenialQueue();
  DenialQueue(const DenialQueue&) = delete;
  DenialQueue& operator=(const DenialQueue&) = delete;

  // False: there is no room.
  bool Post(uint32_t channel, const bh_call& call, const bh_denial_cause& cause);

 private:
  struct Entry {
    uint32_t channel;
    bh_denial denial;
  };
  void Run();

  const std::function<void(uint32_t, const bh_denial&)> deliver_;
  std::mutex mutex_;
  std::condition_variable posted_;
  std::array<Entry, kCapacity> ring_;
  size_t first_ = 0;
  size_t count_ = 0;
  size_t taken_ = 0;  // places: of records that are queued, being filled, and being delivered
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_DENIAL_QUEUE_H_
