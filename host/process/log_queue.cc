// SPDX-License-Identifier: Apache-2.0
#include "host/process/log_queue.h"

#include <bulkhead/driver.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "ipc/check.h"

namespace bulkhead {

LogQueue::LogQueue() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  BULKHEAD_CHECK(event_.valid());
}

void LogQueue::Post(uint32_t level, std::string_view text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (lines_.size() >= kLinesMax) {
    ++dropped_;
    return;
  }
  lines_.push_back(
      {std::min<uint32_t>(level, BULKHEAD_LOG_ERROR), std::string(text.substr(0, kLineBytesMax))});
  const uint64_t one = 1;
  (void)!write(event_.get(), &one, sizeof(one));
}

bool LogQueue::Take(Line* line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (lines_.empty()) {
    uint64_t count;
    (void)!read(event_.get(), &count, sizeof(count));
    return false;
  }
  *line = std::move(lines_.front());
  lines_.pop_front();
  return true;
}

uint64_t LogQueue::dropped() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return dropped_;
}

}  // namespace bulkhead
