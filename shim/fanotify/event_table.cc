// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/event_table.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "ipc/check.h"
#include "ipc/monotonic.h"

// SUBTLE: the journal's counters are added to relaxed and read by the supervisor at any time: each
// is correct by itself, and no decision depends on two of them. in_use_ increases under the lock
// only and decreases at any time: a relaxed read under the lock may be too high, never too low.

namespace bulkhead {
namespace {

// An opener with less than one in so many of the events is not what fills the room.
constexpr uint32_t kNotableShare = 16;

}  // namespace

EventTable::EventTable(Journal* journal, const GuardGroups& groups, uint32_t in_flight_max,
                       Closer* closer)
    : journal_(journal),
      groups_(groups),
      in_flight_max_(std::min(in_flight_max, kInFlightMax)),
      closer_(closer),
      events_(kJournalRecords) {
  // Low indexes first: a shim that is never busy uses few pages.
  free_.reserve(kJournalRecords);
  for (uint32_t i = kJournalRecords; i > 0; --i) free_.push_back(i - 1);
}

Event& EventTable::At(uint32_t index) {
  Event& event = events_[index];
  event.index = index;
  if (event.path == nullptr) event.path = std::make_unique<char[]>(Event::kPathBytesMax);
  return event;
}

bool EventTable::HasItsShare(uint32_t opener) const {
  const auto found = held_.find(opener);
  const uint32_t in_use = in_use_.load(std::memory_order_relaxed);
  const uint32_t left = in_use < in_flight_max_ ? in_flight_max_ - in_use : 0;
  return found != held_.end() && found->second >= left;
}

bool EventTable::IsCrowded(uint32_t opener) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = held_.find(opener);
  return opener > BH_OPENER_ROOT && found != held_.end() &&
         found->second > in_flight_max_ / kNotableShare;
}

Event* EventTable::Acquire(bool reserve, uint32_t opener) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (free_.empty()) return nullptr;
  if (!reserve) {
    // What waits to be closed has a descriptor still.
    if (in_use_.load(std::memory_order_relaxed) + closer_->waiting() >= in_flight_max_ ||
        HasItsShare(opener)) {
      return nullptr;
    }
    in_use_.fetch_add(1, std::memory_order_acq_rel);
    if (opener != 0) ++held_[opener];
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  return &At(index);
}

void EventTable::Take(Event& event) {
  JournalRecord& record = journal_->records[event.index];
  if (record.taken_ns == 0) record.taken_ns = MonotonicNowNs();
  record.state.store(RecordState::kTaken, std::memory_order_release);
  uint64_t deadline_ns = 0;
  bool known = false;
  bool enforced = false;
  for (uint32_t group = 0; group < kGuardGroups; ++group) {
    const uint64_t of_group_ns = journal_->group_deadline_ns[group].load();
    // An event of an unknown group gets the longest, and may be one of a guard that is enforced.
    if (record.group != group && (record.group != kUnknownGroup || of_group_ns == 0)) continue;
    deadline_ns = std::max(deadline_ns, of_group_ns);
    known = true;
    enforced = enforced || journal_->group_audited[group].load() == 0;
  }
  event.deadline_ns = record.taken_ns + deadline_ns;
  event.audited = known && !enforced;
}

EventTable::ReadResult EventTable::ReadGroup(Event& event, uint32_t group) {
  JournalRecord& record = journal_->records[event.index];
  std::memset(&record.metadata, 0, sizeof(record.metadata));
  record.taken_ns = 0;
  record.group = group;
  record.state.store(RecordState::kReading, std::memory_order_release);
  // Room for one event, so that the kernel delivers one.
  const ssize_t bytes = read(groups_[group], &record.metadata, sizeof(record.metadata));
  if (bytes == static_cast<ssize_t>(sizeof(record.metadata))) {
    BULKHEAD_CHECK(record.metadata.vers == FANOTIFY_METADATA_VERSION);
    if (record.metadata.fd < 0) return ReadResult::kNothing;  // a queue overflow
    Take(event);
    journal_->counters.events.fetch_add(1, std::memory_order_relaxed);
    return ReadResult::kEvent;
  }
  return bytes < 0 && (errno == EAGAIN || errno == EINTR) ? ReadResult::kNothing
                                                          : ReadResult::kFailed;
}

// In turn, so that a flood in one group does not keep the others waiting.
EventTable::ReadResult EventTable::Read(Event& event, GroupKind kind) {
  const uint32_t used = std::clamp(journal_->deadlines_used.load(), 1u, kGuardDeadlines);
  // SUBTLE: relaxed: it decides whose turn comes first, and nothing else.
  std::atomic<uint32_t>& next = next_[static_cast<size_t>(kind)];
  const uint32_t first = next.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < used; ++i) {
    const uint32_t deadline = (first + i) % used;
    const ReadResult result = ReadGroup(event, GroupOf(deadline, kind));
    if (result == ReadResult::kNothing) continue;
    next.store(deadline + 1, std::memory_order_relaxed);
    return result;
  }
  return ReadResult::kNothing;
}

// False when the group has no such event.
bool EventTable::Respond(uint32_t group, const fanotify_response& response) const {
  ssize_t written;
  do {
    written = write(groups_[group], &response, sizeof(response));
  } while (written < 0 && errno == EINTR);
  return written == static_cast<ssize_t>(sizeof(response));
}

void EventTable::Answer(Event& event, bool allow) {
  JournalRecord& record = journal_->records[event.index];
  const fanotify_response response = {.fd = record.metadata.fd,
                                      .response = allow ? uint32_t{FAN_ALLOW} : uint32_t{FAN_DENY}};
  // ENOENT: the process that waited was killed, or the event was answered just before the previous
  // worker died.
  if (record.group < kGuardGroups) {
    Respond(record.group, response);
  } else {
    for (uint32_t group = 0; group < kGuardGroups && !Respond(group, response); ++group) {
    }
  }
  record.state.store(RecordState::kAnswered, std::memory_order_release);
  if (IsSlow(event)) {
    closer_->Close(record.metadata.fd);
  } else {
    close(record.metadata.fd);
  }

  const uint64_t now_ns = MonotonicNowNs();
  const uint64_t took_ns = now_ns - record.taken_ns;
  JournalCounters& counters = journal_->counters;
  uint64_t longest = counters.answer_ns_max.load(std::memory_order_relaxed);
  while (took_ns > longest && !counters.answer_ns_max.compare_exchange_weak(longest, took_ns)) {
  }
  if (now_ns > event.deadline_ns + kLateAfterNs)
    counters.late.fetch_add(1, std::memory_order_relaxed);
  record.state.store(RecordState::kFree, std::memory_order_release);
}

void EventTable::Release(Event& event) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(event.index);
  in_use_.fetch_sub(1, std::memory_order_acq_rel);
  const auto found = held_.find(event.call.opener);
  if (found != held_.end() && --found->second == 0) held_.erase(found);
}

void EventTable::Charge(const Event& event) {
  if (event.call.opener == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  ++held_[event.call.opener];
}

std::vector<int> EventTable::UnansweredDescriptors(const Journal& journal) {
  std::vector<int> descriptors;
  for (const JournalRecord& record : journal.records) {
    if (IsUnanswered(record)) descriptors.push_back(record.metadata.fd);
  }
  return descriptors;
}

std::vector<Event*> EventTable::Adopt(const std::vector<int>& unknown) {
  // Not through Acquire(): the record of each event is given.
  std::vector<Event*> adopted;
  std::vector<bool> used(kJournalRecords, false);
  const auto take = [&](uint32_t index) {
    Event& event = At(index);
    Take(event);
    used[index] = true;
    adopted.push_back(&event);
  };
  for (uint32_t i = 0; i < kJournalRecords; ++i) {
    JournalRecord& record = journal_->records[i];
    if (IsUnanswered(record)) {
      take(i);
    } else {
      record.state.store(RecordState::kFree, std::memory_order_release);
    }
  }
  uint32_t next = 0;
  for (const int descriptor : unknown) {
    while (next < kJournalRecords && used[next]) ++next;
    if (next == kJournalRecords) break;
    JournalRecord& record = journal_->records[next];
    std::memset(&record.metadata, 0, sizeof(record.metadata));
    record.metadata.event_len = sizeof(record.metadata);
    record.metadata.vers = FANOTIFY_METADATA_VERSION;
    record.metadata.mask = FAN_OPEN_PERM;
    record.metadata.fd = descriptor;
    record.taken_ns = 0;
    record.group = kUnknownGroup;
    take(next);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  free_.erase(std::remove_if(free_.begin(), free_.end(), [&](uint32_t i) { return used[i]; }),
              free_.end());
  in_use_.store(static_cast<uint32_t>(adopted.size()), std::memory_order_release);
  journal_->counters.adopted.fetch_add(adopted.size(), std::memory_order_relaxed);
  return adopted;
}

}  // namespace bulkhead
