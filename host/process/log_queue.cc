// SPDX-License-Identifier: Apache-2.0
#include "host/process/log_queue.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "ipc/check.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

// What the operator's own log has, and other machines' too.
uint64_t RealNowNs() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNanosecondsPerSecond +
         static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

// Not zeroed: the pages of lines that were never posted stay untouched.
LogQueue::LogQueue()
    : own_memory_(std::make_unique_for_overwrite<std::byte[]>(LogRing::kBytes)),
      ring_({own_memory_.get(), LogRing::kBytes}),
      event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  BULKHEAD_CHECK(event_.valid());
}

LogQueue::LogQueue(std::span<std::byte> memory)
    : ring_(memory), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  BULKHEAD_CHECK(event_.valid());
}

// The time is taken under the lock, so that the times of lines are in the order of the lines.
void LogQueue::Post(uint32_t level, std::string_view text) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!ring_.Put(level, RealNowNs(), text)) return;
  const uint64_t one = 1;
  (void)!write(event_.get(), &one, sizeof(one));
}

bool LogQueue::Front(Line* line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ring_.Front(line)) return true;
  uint64_t count;
  (void)!read(event_.get(), &count, sizeof(count));
  return false;
}

void LogQueue::Pop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ring_.Pop();
}

void LogQueue::Drop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ring_.Pop();
  ring_.CountDropped();
}

uint64_t LogQueue::dropped() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ring_.dropped();
}

}  // namespace bulkhead
