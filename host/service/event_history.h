// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SERVICE_EVENT_HISTORY_H_
#define BULKHEAD_HOST_SERVICE_EVENT_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "host/supervisor/driver_event.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/mutex.h"

namespace bulkhead {

// EventHistory: the newest events of a service, numbered from 1, for operators that ask for them.
// What a driver writes to its log, or to standard error, is not kept: it could push out all the
// rest. So could denials, which any user can cause: they have room of their own.
//
// Threads: any. Waits for nothing.
class EventHistory {
 public:
  static constexpr size_t kEventsMax = 2000;
  static constexpr size_t kDenialsMax = 1000;  // beside these
  static constexpr size_t kAnsweredMax = 256;  // in one answer, of which as many are sent as fit

  void Add(const DriverEvent& event, uint64_t at_us) ABSL_LOCKS_EXCLUDED(mutex_);
  // How often each kind has happened.
  std::map<std::string, uint64_t> Counts() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Those after the one with this number, the oldest first, up to the next that is no longer known:
  // `lost` are right before the first. Without `words`: without the texts that may quote a driver,
  // and without the objects and processes of denials.
  EventsFields After(uint64_t sequence, bool words = true) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Kept {
    EventFields fields;
    std::string plain_line;  // without words; empty: it has none
  };
  static EventFields WithoutWords(const Kept& kept);

  mutable Mutex mutex_;
  std::deque<Kept> events_ ABSL_GUARDED_BY(mutex_);
  std::deque<Kept> denials_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> counts_ ABSL_GUARDED_BY(mutex_);
  uint64_t newest_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_EVENT_HISTORY_H_
