// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/reader.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>

#include "ipc/monotonic.h"
#include "shim/embedded/file_request.h"
#include "shim/fanotify/opener.h"

namespace bulkhead {
namespace {

// How long a reader keeps the lead while it waits for an answer.
constexpr uint64_t kLeadNs = 50'000;
// How long it then still waits for the answer before it parks the call, if no other event waits for
// it.
constexpr uint64_t kFollowNs = 1'000'000;
// With more parked calls than this a driver is slow or dead: readers only read.
constexpr uint32_t kParkedBusy = 8;
constexpr int kNoRecordPollMs = 1;
constexpr int kPeersDescendants = 2;  // a host; a keeper's worker

}  // namespace

void FillEventCall(const bh_shim& stack, const fanotify_event_metadata& metadata, Event& event) {
  FileRequest request;
  request.callback = CallbackOf(metadata);
  request.pid = static_cast<uint32_t>(metadata.pid);
  request.audited = event.audited;
  if (!DescribeObject(metadata.fd, request).ok()) request.descriptor = metadata.fd;
  if ((bh_shim_wants(&stack, request.callback) & BH_WANTS_PATH) != 0) {
    char link[32];
    std::snprintf(link, sizeof(link), "/proc/self/fd/%d", metadata.fd);
    const ssize_t length = readlink(link, event.path.get(), Event::kPathBytesMax);
    if (length > 0) request.path = std::string_view(event.path.get(), static_cast<size_t>(length));
  }
  FillCall(request, event.deadline_ns, event.call);
  // Else it is found out when the call has waited for a while.
  if (bh_shim_suspects_users(&stack) != 0) event.call.opener = OpenerOf(metadata.pid);
}

namespace {

void Answer(ReaderContext& context, Event& event, bool allow) {
  // Counters first: after the answer the opening process may read them. SUBTLE: relaxed, as all of
  // the journal's counters (event_table.cc); the answer goes through the kernel, which orders them.
  (allow ? context.journal->counters.allowed : context.journal->counters.denied)
      .fetch_add(1, std::memory_order_relaxed);
  context.events->Answer(event, allow);
}

void AnswerUnasked(ReaderContext& context, Event& event, bh_reason reason) {
  const bool allow = bh_call_refuse(context.stack, &event.call, reason) == BH_VERDICT_ALLOW;
  if (allow) context.journal->counters.let_through.fetch_add(1, std::memory_order_relaxed);
  Answer(context, event, allow);
}

}  // namespace

void AnswerCall(ReaderContext& context, Event& event) {
  if (event.call.outcome == BH_OUTCOME_CANCELLED) {
    // The worker is being stopped: no host will answer any more.
    AnswerUnasked(context, event, BH_REASON_FULL);
  } else {
    Answer(context, event, event.call.verdict == BH_VERDICT_ALLOW);
  }
}

bool IsOfAPeer(const ExclusionTable& exclusions, pid_t process) {
  if (!exclusions.HasPeers()) return false;
  for (int depth = 0; depth < kPeersDescendants; ++depth) {
    process = ParentOf(process);
    if (exclusions.IsPeer(process)) return true;
  }
  return false;
}

bool Reader::IsOurs(pid_t pid) const {
  return pid == context_->own_pid || pid == context_->keeper_pid ||
         context_->exclusions->Contains(pid);
}

// Waits for an event, into event_. False when the worker stops.
bool Reader::TakeNext() {
  for (;;) {
    if (context_->stop->mode() != StopMode::kNone) return false;
    if (kind_ == GroupKind::kSlow && !context_->closer->HasRoom()) continue;
    if (event_ == nullptr) {
      // Every record holds an event from a dead worker: these end by their deadlines.
      event_ = context_->events->Acquire(/*reserve=*/true);
      if (event_ == nullptr) {
        pollfd stop = {.fd = context_->stop->fd(), .events = POLLIN, .revents = 0};
        poll(&stop, 1, kNoRecordPollMs);
        continue;
      }
    }
    switch (context_->events->Read(*event_, kind_)) {
      case EventTable::ReadResult::kEvent:
        return true;
      case EventTable::ReadResult::kFailed:
        // The kernel could not open the object, and has denied the access already.
        context_->journal->counters.read_errno.store(static_cast<uint64_t>(errno),
                                                     std::memory_order_relaxed);
        context_->journal->counters.read_errors.fetch_add(1, std::memory_order_relaxed);
        continue;
      case EventTable::ReadResult::kNothing:
        break;
    }
    // All deadlines: one may come into use meanwhile.
    pollfd waited[kGuardDeadlines + 1];
    for (uint32_t deadline = 0; deadline < kGuardDeadlines; ++deadline) {
      waited[deadline] = {
          .fd = context_->groups[GroupOf(deadline, kind_)], .events = POLLIN, .revents = 0};
    }
    waited[kGuardDeadlines] = {.fd = context_->stop->fd(), .events = POLLIN, .revents = 0};
    poll(waited, kGuardDeadlines + 1, -1);
  }
}

void Reader::Run() {
  std::unique_lock<std::mutex> lead(*context_->lead, std::defer_lock);
  for (;;) {
    if (kind_ == GroupKind::kLocal) lead.lock();
    if (!TakeNext()) return;
    if (kind_ == GroupKind::kSlow) context_->slow_busy.fetch_add(1);
    Handle(lead);
    if (kind_ == GroupKind::kSlow) context_->slow_busy.fetch_sub(1);
    if (lead.owns_lock()) lead.unlock();
  }
}

void Reader::Handle(std::unique_lock<std::mutex>& lead) {
  Event& event = *event_;
  const fanotify_event_metadata& metadata = context_->events->metadata(event);
  if (IsOurs(metadata.pid)) {
    context_->journal->counters.excluded.fetch_add(1, std::memory_order_relaxed);
    context_->events->Answer(event, true);
    return;
  }
  FillEventCall(*context_->stack, metadata, event);
  // Where others wait a call is parked at once, if there is room for it, and not made otherwise.
  if (context_->completer->parked() > kParkedBusy) {
    Event* next = MakeRoom(event);
    if (next == nullptr) return;
    event_ = next;
    bh_call_start(context_->stack, &event.call);
    if (event.call.outcome == BH_OUTCOME_PENDING && bh_call_run_until(&event.call, 0) == 0) {
      context_->completer->Park(&event);
      return;
    }
    AnswerCall(*context_, event);
    context_->events->Release(event);
    return;
  }
  bh_call_start(context_->stack, &event.call);
  bool ended = event.call.outcome != BH_OUTCOME_PENDING ||
               bh_call_run_until(&event.call, MonotonicAfterNs(kLeadNs)) != 0;
  if (!ended) {
    if (lead.owns_lock()) lead.unlock();
    ended = bh_call_run_until(&event.call, MonotonicAfterNs(kFollowNs)) != 0;
  }
  if (ended) {
    AnswerCall(*context_, event);
    return;
  }
  Event* next = MakeRoom(event);
  if (next == nullptr) {
    bh_call_cancel(&event.call, MonotonicNowNs());
    return;
  }
  event_ = next;
  context_->completer->Park(&event);
}

// The record to read into while this event is parked. Null: it can't be, and was answered.
Event* Reader::MakeRoom(Event& event) {
  const pid_t process = context_->events->metadata(event).pid;
  JournalCounters& counters = context_->journal->counters;
  if (IsOfAPeer(*context_->exclusions, process)) {
    counters.excluded.fetch_add(1, std::memory_order_relaxed);
    context_->events->Answer(event, true);
    return nullptr;
  }
  bh_call_charge(&event.call, OpenerOf(process));
  Event* next = context_->events->Acquire(/*reserve=*/false, event.call.opener);
  if (next != nullptr) return next;
  const bool crowded = context_->events->IsCrowded(event.call.opener);
  (crowded ? counters.crowded : counters.full).fetch_add(1, std::memory_order_relaxed);
  AnswerUnasked(*context_, event, crowded ? BH_REASON_CROWD : BH_REASON_FULL);
  return nullptr;
}

}  // namespace bulkhead
