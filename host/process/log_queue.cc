// SPDX-License-Identifier: Apache-2.0
#include "host/process/log_queue.h"

#include <bulkhead/driver.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "ipc/check.h"

namespace bulkhead {

// Not zeroed: the pages of lines that were never posted stay untouched.
LogQueue::LogQueue()
    : slots_(std::make_unique_for_overwrite<Slot[]>(kLinesMax)),
      event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  BULKHEAD_CHECK(event_.valid());
}

void LogQueue::Post(uint32_t level, std::string_view text) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (lines_ == kLinesMax) {
    ++dropped_;
    return;
  }
  Slot& slot = slots_[(oldest_ + lines_++) % kLinesMax];
  slot.level = std::min<uint32_t>(level, BULKHEAD_LOG_ERROR);
  slot.bytes = static_cast<uint32_t>(text.copy(slot.text, kLineBytesMax));
  const uint64_t one = 1;
  (void)!write(event_.get(), &one, sizeof(one));
}

bool LogQueue::Take(Line* line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (lines_ == 0) {
    uint64_t count;
    (void)!read(event_.get(), &count, sizeof(count));
    return false;
  }
  const Slot& slot = slots_[oldest_];
  line->level = slot.level;
  line->text.assign(slot.text, slot.bytes);
  oldest_ = (oldest_ + 1) % kLinesMax;
  --lines_;
  return true;
}

void LogQueue::CountDropped() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++dropped_;
}

uint64_t LogQueue::dropped() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return dropped_;
}

}  // namespace bulkhead
