// SPDX-License-Identifier: Apache-2.0
//
// EventTable: the worker's access to the journal: takes events from the kernel into records,
// answers them, and keeps the list of free records. State of a record outside the journal (its
// call, its path) is in the Event of the same index.
//
// Threads: Read() of local groups by one thread at a time (the reader that leads), everything else
// by any.
#ifndef BULKHEAD_SHIM_FANOTIFY_EVENT_TABLE_H_
#define BULKHEAD_SHIM_FANOTIFY_EVENT_TABLE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "ipc/fanotify/journal.h"
#include "shim/core/bulkhead_core.h"
#include "shim/fanotify/closer.h"

namespace bulkhead {

// One event that the worker handles.
struct Event {
  static constexpr size_t kPathBytesMax = 4096;

  uint32_t index = 0;
  uint64_t deadline_ns = 0;
  bool audited = false;  // each guard that it comes from is audited
  bh_call call = {};
  std::unique_ptr<char[]> path;  // kPathBytesMax, made when the record is first used
};

// Descriptors of the fanotify groups, all of them.
using GuardGroups = std::array<int, kGuardGroups>;

class EventTable {
 public:
  enum class ReadResult { kEvent, kNothing, kFailed };

  // `in_flight_max`: events that may be parked; at most kInFlightMax. `closer`, for files of slow
  // groups, is not owned and outlives it.
  EventTable(Journal* journal, const GuardGroups& groups, uint32_t in_flight_max, Closer* closer);

  // A free record to read into, in place of one that its reader parks; null when as many events as
  // allowed are in flight, or its opener (bh_call::opener) has as many of them as there is room
  // left: so that each user leaves room for others. In addition each reader owns one (`reserve`: it
  // asks for it once, when it begins).
  Event* Acquire(bool reserve, uint32_t opener = 0);
  // Whether there was none because of the opener's own events. Root's are put down to nobody.
  bool IsCrowded(uint32_t opener);

  // Takes the next event of the groups of a kind into the event's record. kNothing: there is none.
  ReadResult Read(Event& event, GroupKind kind);

  const fanotify_event_metadata& metadata(const Event& event) const {
    return journal_->records[event.index].metadata;
  }

  // Whether its file system may let any access to it wait.
  bool IsSlow(const Event& event) const {
    return bulkhead::IsSlow(journal_->records[event.index].group);
  }

  // Writes the response to the kernel. The caller keeps the record, to read into again or, when it
  // was parked or adopted, to Release().
  void Answer(Event& event, bool allow);
  void Release(Event& event);

  // Events that the previous worker left unanswered; their records are taken from the free list.
  // Called once, before any thread runs. `unknown`: descriptors of events that are in no record.
  std::vector<Event*> Adopt(const std::vector<int>& unknown);
  // An adopted event's opener is known now.
  void Charge(const Event& event);

  // The descriptors of unanswered records, for a worker that has just started.
  static std::vector<int> UnansweredDescriptors(const Journal& journal);

  uint32_t in_use() const { return in_use_.load(std::memory_order_acquire); }

 private:
  Event& At(uint32_t index);
  void Take(Event& event);
  ReadResult ReadGroup(Event& event, uint32_t group);
  bool Respond(uint32_t group, const fanotify_response& response) const;
  bool HasItsShare(uint32_t opener) const;  // REQUIRES: mutex_

  Journal* const journal_;
  const GuardGroups groups_;
  const uint32_t in_flight_max_;
  Closer* const closer_;
  std::array<std::atomic<uint32_t>, 2> next_ = {};  // deadline to be looked at first, by kind
  std::vector<Event> events_;
  std::mutex mutex_;
  std::vector<uint32_t> free_;
  std::atomic<uint32_t> in_use_{0};  // records that are neither free nor owned by a reader
  std::unordered_map<uint32_t, uint32_t> held_;  // of them, by opener; under mutex_
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_EVENT_TABLE_H_
