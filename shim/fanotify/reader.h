// SPDX-License-Identifier: Apache-2.0
//
// Reader: one of the worker's threads that take events from the kernel and ask the drivers.
//
// One reader leads: it alone waits for the group. It keeps the lead while the answer comes at once,
// so that a quick driver costs no thread switch, and hands it on before it waits for longer. A call
// that takes long goes to the completer: readers are never used up by a driver that hangs.
//
// Nothing here opens a file or writes a log: an access of our own would wait for ourselves.
#ifndef BULKHEAD_SHIM_FANOTIFY_READER_H_
#define BULKHEAD_SHIM_FANOTIFY_READER_H_

#include <sys/types.h>

#include <functional>
#include <mutex>

#include "shim/core/bulkhead_core.h"
#include "shim/embedded/exclusion_table.h"
#include "shim/fanotify/completer.h"
#include "shim/fanotify/event_table.h"
#include "shim/fanotify/stop_signal.h"

namespace bulkhead {

// What all readers of a worker share.
struct ReaderContext {
  int group = -1;
  Journal* journal = nullptr;
  EventTable* events = nullptr;
  Completer* completer = nullptr;
  bh_shim* stack = nullptr;
  const ExclusionTable* exclusions = nullptr;
  const StopSignal* stop = nullptr;
  pid_t own_pid = 0;
  pid_t keeper_pid = 0;
  std::mutex* lead = nullptr;
  // What the operator wants when there is no room for another call.
  std::function<bool(uint32_t callback)> allow_when_full;
};

// Fills the event's call from its descriptor, with what the stack's drivers want to know.
void FillEventCall(const bh_shim& stack, const fanotify_event_metadata& metadata, Event& event);

class Reader {
 public:
  explicit Reader(ReaderContext* context) : context_(context) {}
  // The thread; returns when the stop signal is raised.
  void Run();

 private:
  bool TakeLeading();
  void Handle(std::unique_lock<std::mutex>& lead);
  bool IsOurs(pid_t pid) const;

  ReaderContext* const context_;
  Event* event_ = nullptr;  // what it reads into
};

// Answers the kernel with what a call that has ended says, and counts it.
void AnswerCall(ReaderContext& context, Event& event);

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_READER_H_
