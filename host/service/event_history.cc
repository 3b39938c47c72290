// SPDX-License-Identifier: Apache-2.0
#include "host/service/event_history.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "host/service/event_fields.h"
#include "host/service/event_text.h"

namespace bulkhead {
namespace {

// What was denied and why, and not to whom, nor of which object.
std::shared_ptr<const bh_denial> WithoutNames(const bh_denial& denial) {
  bh_denial plain = {};
  plain.callback = denial.callback;
  plain.by = denial.by;
  plain.reason = denial.reason;
  plain.error = denial.error;
  plain.audited = denial.audited;
  plain.generation = denial.generation;
  plain.uid = UINT32_MAX;
  return std::make_shared<const bh_denial>(plain);
}

}  // namespace

EventFields EventHistory::WithoutWords(const Kept& kept) {
  EventFields fields = kept.fields;
  if (kept.plain_line.empty()) return fields;
  fields.line = kept.plain_line;
  for (std::string* words : {&fields.text, &fields.rule, &fields.path, &fields.comm, &fields.exe}) {
    words->clear();
  }
  fields.device = fields.inode = 0;
  fields.caller_pid = 0;
  fields.caller_uid = UINT32_MAX;
  return fields;
}

void EventHistory::Add(const DriverEvent& event, uint64_t at_us) {
  const bool own_words = event.kind == DriverEventKind::kLog ||
                         event.kind == DriverEventKind::kLogDropped ||
                         event.kind == DriverEventKind::kWrote;
  if (own_words) return;
  Kept kept = {.fields = FieldsOf(event, at_us), .plain_line = ""};
  if (QuotesDrivers(event.kind)) {
    DriverEvent plain = event;
    plain.text = "(the text is for admins)";
    if (plain.denial != nullptr) plain.denial = WithoutNames(*plain.denial);
    kept.plain_line = EventLine(plain);
  }
  const MutexLock lock(mutex_);
  kept.fields.sequence = ++newest_;
  ++counts_[kept.fields.kind];
  const bool denial = kept.fields.denied_by != 0;
  std::deque<Kept>& all = denial ? denials_ : events_;
  all.push_back(std::move(kept));
  if (all.size() > (denial ? kDenialsMax : kEventsMax)) all.pop_front();
}

std::map<std::string, uint64_t> EventHistory::Counts() const {
  const MutexLock lock(mutex_);
  return counts_;
}

EventsFields EventHistory::After(uint64_t sequence, bool words) const {
  const MutexLock lock(mutex_);
  EventsFields fields = {.events = {}, .newest = newest_};
  if (sequence >= newest_) return fields;
  const auto first_after = [sequence](const std::deque<Kept>& events) {
    return std::upper_bound(
        events.begin(), events.end(), sequence,
        [](uint64_t number, const Kept& event) { return number < event.fields.sequence; });
  };
  auto event = first_after(events_);
  auto denial = first_after(denials_);
  uint64_t next = 0;
  while (fields.events.size() < kAnsweredMax) {
    const bool more_events = event != events_.end();
    const bool more_denials = denial != denials_.end();
    if (!more_events && !more_denials) break;
    const bool take_denial =
        more_denials && (!more_events || denial->fields.sequence < event->fields.sequence);
    const Kept& oldest = take_denial ? *denial : *event;
    if (next == 0) fields.lost = oldest.fields.sequence - (sequence + 1);
    if (next != 0 && oldest.fields.sequence != next) break;
    next = oldest.fields.sequence + 1;
    fields.events.push_back(words ? oldest.fields : WithoutWords(oldest));
    take_denial ? ++denial : ++event;
  }
  return fields;
}

}  // namespace bulkhead
