// SPDX-License-Identifier: Apache-2.0
//
// LogQueue: lines that a driver's threads log, until the control loop sends them. A driver never
// waits for the supervisor: when the queue is full, lines are dropped and counted. Post() does not
// allocate, so it can be used on the path of a verdict and to report a lack of memory.
//
// The lines lie in memory that the supervisor holds too (LogRing): those that were not sent when
// the host dies are read from there.
//
// Threads: Post() from any; Front(), Pop() and fd() for one reader.
#ifndef BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_
#define BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>

#include "ipc/log_ring_unsafe.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class LogQueue {
 public:
  using Line = LogRing::Line;
  static constexpr size_t kLinesMax = LogRing::kLinesMax;
  static constexpr size_t kLineBytesMax = LogRing::kLineBytesMax;

  // In private memory: for a process without a supervisor.
  LogQueue();
  // `memory` outlives this. REQUIRES: memory.size() >= LogRing::kBytes.
  explicit LogQueue(std::span<std::byte> memory);
  void Post(uint32_t level, std::string_view text) noexcept;
  // The oldest line. False: there is none, and fd() is no longer readable.
  bool Front(Line* line);
  // That line was sent: the next one is the oldest.
  void Pop();
  // The oldest line can't be sent.
  void Drop();
  uint64_t dropped() const;                // lines that found the queue full, or could not be sent
  int fd() const { return event_.get(); }  // readable while there are lines

 private:
  const std::unique_ptr<std::byte[]> own_memory_;
  mutable std::mutex mutex_;
  LogRing ring_;
  UniqueFd event_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_
