// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_history.h"

#include <algorithm>
#include <utility>

#include "host/service/event_fields.h"

namespace bulkhead {
void EventHistory::Add(const DriverEvent& event, uint64_t at_us) {
  const bool own_words = event.kind == DriverEventKind::kLog ||
                         event.kind == DriverEventKind::kLogDropped ||
                         event.kind == DriverEventKind::kWrote;
  if (own_words) return;
  EventFields fields = FieldsOf(event, at_us);
  const MutexLock lock(mutex_);
  fields.sequence = ++newest_;
  ++counts_[fields.kind];
  events_.push_back(std::move(fields));
  if (events_.size() > kEventsMax) events_.pop_front();
}

std::map<std::string, uint64_t> EventHistory::Counts() const {
  const MutexLock lock(mutex_);
  return counts_;
}

EventsFields EventHistory::After(uint64_t sequence) const {
  const MutexLock lock(mutex_);
  EventsFields fields = {.events = {}, .newest = newest_};
  if (sequence >= newest_) return fields;
  const uint64_t oldest = newest_ - events_.size() + 1;
  const uint64_t first = std::max(sequence + 1, oldest);
  fields.lost = first - (sequence + 1);
  const size_t begin = first - oldest;
  const size_t end = std::min(events_.size(), begin + kAnsweredMax);
  fields.events.assign(events_.begin() + static_cast<ptrdiff_t>(begin),
                       events_.begin() + static_cast<ptrdiff_t>(end));
  return fields;
}

}  // namespace bulkhead
