// SPDX-License-Identifier: Apache-2.0
//
// LogQueue: lines that a driver's threads log, until the control loop sends them. It never makes a
// driver wait for the supervisor: when it is full, lines are dropped and counted.
//
// Threads: Post() from any; Take() and fd() for one reader.
#ifndef BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_
#define BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_

#include <cstdint>
#include <deque>
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
  void Post(uint32_t level, std::string_view text);
  // The oldest line. False: there is none, and fd() is no longer readable.
  bool Take(Line* line);
  uint64_t dropped() const;
  int fd() const { return event_.get(); }  // readable while there are lines

 private:
  mutable std::mutex mutex_;
  std::deque<Line> lines_;
  uint64_t dropped_ = 0;
  UniqueFd event_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_LOG_QUEUE_H_
