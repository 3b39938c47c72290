// SPDX-License-Identifier: Apache-2.0
//
// LogQueue: lines that a driver's threads log, until the control loop sends them. A driver never
// waits for the supervisor: when the queue is full, lines are dropped and counted. Post() does not
// allocate, so it can be used on the path of a verdict and to report a lack of memory.
//
// Threads: Post() from any; Take() and fd() for one reader.
#ifndef BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_
#define BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "ipc/unique_fd.h"

namespace bulkhead {

class LogQueue {
 public:
  struct Line {
    uint32_t level = 0;  // enum bulkhead_log_level
    std::string text;
  };
  static constexpr size_t kLinesMax = 256;
  static constexpr size_t kLineBytesMax = 1024;

  LogQueue();
  void Post(uint32_t level, std::string_view text) noexcept;
  // The oldest line. False: there is none, and fd() is no longer readable.
  bool Take(Line* line);
  // A line that was taken could not be sent.
  void CountDropped();
  uint64_t dropped() const;                // lines that found the queue full, or could not be sent
  int fd() const { return event_.get(); }  // readable while there are lines

 private:
  struct Slot {
    uint32_t level;
    uint32_t bytes;
    char text[kLineBytesMax];
  };

  mutable std::mutex mutex_;
  const std::unique_ptr<Slot[]> slots_;  // a ring of kLinesMax
  size_t oldest_ = 0;
  size_t lines_ = 0;
  uint64_t dropped_ = 0;
  UniqueFd event_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_
