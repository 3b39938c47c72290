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
  const bool denial = fields.denied_by != 0;
  std::deque<EventFields>& kept = denial ? denials_ : events_;
  kept.push_back(std::move(fields));
  if (kept.size() > (denial ? kDenialsMax : kEventsMax)) kept.pop_front();
}

std::map<std::string, uint64_t> EventHistory::Counts() const {
  const MutexLock lock(mutex_);
  return counts_;
}

EventsFields EventHistory::After(uint64_t sequence) const {
  const MutexLock lock(mutex_);
  EventsFields fields = {.events = {}, .newest = newest_};
  if (sequence >= newest_) return fields;
  const auto first_after = [sequence](const std::deque<EventFields>& events) {
    return std::upper_bound(
        events.begin(), events.end(), sequence,
        [](uint64_t number, const EventFields& event) { return number < event.sequence; });
  };
  auto event = first_after(events_);
  auto denial = first_after(denials_);
  uint64_t next = 0;
  while (fields.events.size() < kAnsweredMax) {
    const bool more_events = event != events_.end();
    const bool more_denials = denial != denials_.end();
    if (!more_events && !more_denials) break;
    const bool take_denial = more_denials && (!more_events || denial->sequence < event->sequence);
    const EventFields& oldest = take_denial ? *denial : *event;
    if (next == 0) fields.lost = oldest.sequence - (sequence + 1);
    if (next != 0 && oldest.sequence != next) break;
    next = oldest.sequence + 1;
    fields.events.push_back(oldest);
    take_denial ? ++denial : ++event;
  }
  return fields;
}

}  // namespace bulkhead
