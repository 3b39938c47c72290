// SPDX-License-Identifier: Apache-2.0
//
// EventQueue: passes events that the core raises in a caller's context to a thread that may block.
//
// Post() is on the path of a call: it does not allocate, and waits only for a short critical
// section. The queue is bounded. A hung host makes every one of its calls overdue, so the same
// event about the same generation is queued once, and a flood of one kind can't displace another
// kind.
#ifndef BULKHEAD_SHIM_EMBEDDED_EVENT_QUEUE_H_
#define BULKHEAD_SHIM_EMBEDDED_EVENT_QUEUE_H_

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace bulkhead {

// The arguments of bh_platform.event.
struct CoreEvent {
  uint32_t channel = 0;
  uint32_t event = 0;  // enum bh_event
  uint32_t detail = 0;
  uint32_t generation = 0;
  uint64_t call_id = 0;
};

class EventQueue {
 public:
  static constexpr size_t kCapacity = 256;
  // The entries that poison events may fill; the others are kept for events that end a generation.
  static constexpr size_t kPoisonCapacity = 128;

  // `deliver` runs on the queue's own thread, one event at a time.
  explicit EventQueue(std::function<void(const CoreEvent&)> deliver);
  // Delivers what is queued, then ends the thread.
  ~EventQueue();
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;

  void Post(const CoreEvent& event);

  // Events that were dropped because the queue was full.
  uint64_t dropped() const;

 private:
  bool IsQueuedLocked(const CoreEvent& event) const;
  void Run();

  const std::function<void(const CoreEvent&)> deliver_;
  mutable std::mutex mutex_;
  std::condition_variable posted_;
  std::array<CoreEvent, kCapacity> ring_;
  size_t first_ = 0;
  size_t count_ = 0;
  uint64_t dropped_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_EVENT_QUEUE_H_
