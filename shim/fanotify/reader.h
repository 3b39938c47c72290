// SPDX-License-Identifier: Apache-2.0
//
// Reader: one of the worker's threads that take events from the kernel and ask the drivers.
//
// One reader leads: it alone waits for the group. It keeps the lead while answers come at once, so
// that a quick driver costs no thread switch, and passes it on before it waits for longer. A call
// that takes long goes to the completer: a driver that hangs does not use up the readers.
//
// A group's file systems may let the open wait that a read of an event is (FUSE, NFS). Such groups
// have readers of their own, which read side by side: one stands still for each open that does not
// end, and none of the local groups' does.
//
// The code here opens no file but in /proc, which is not guarded, and writes no log: such an access
// would wait for its own answer.
#ifndef BULKHEAD_SHIM_FANOTIFY_READER_H_
#define BULKHEAD_SHIM_FANOTIFY_READER_H_

#include <sys/types.h>

#include <atomic>
#include <mutex>

#include "ipc/exclusion_table.h"
#include "shim/core/bulkhead_core.h"
#include "shim/fanotify/completer.h"
#include "shim/fanotify/event_table.h"
#include "shim/fanotify/stop_signal.h"

namespace bulkhead {

// Shared by all readers of a worker.
struct ReaderContext {
  GuardGroups groups = {};
  Journal* journal = nullptr;
  EventTable* events = nullptr;
  Completer* completer = nullptr;
  Closer* closer = nullptr;
  bh_shim* stack = nullptr;
  const ExclusionTable* exclusions = nullptr;
  const StopSignal* stop = nullptr;
  pid_t own_pid = 0;
  pid_t keeper_pid = 0;
  std::mutex* lead = nullptr;
  std::atomic<uint32_t> slow_busy{0};  // readers of slow groups that have an event in hand
};

// Fills the event's call from its descriptor, with the facts that the stack's drivers registered
// for.
void FillEventCall(const bh_shim& stack, const fanotify_event_metadata& metadata, Event& event);

// Whether another instance's supervisor started it. It must not wait for our drivers, which may
// wait for that instance's.
bool IsOfAPeer(const ExclusionTable& exclusions, pid_t process);

class Reader {
 public:
  Reader(ReaderContext* context, GroupKind kind) : context_(context), kind_(kind) {}
  // The thread; returns when the stop signal is raised.
  void Run();

 private:
  bool TakeNext();
  void Handle(std::unique_lock<std::mutex>& lead);
  Event* MakeRoom(Event& event);
  bool IsOurs(pid_t pid) const;

  ReaderContext* const context_;
  const GroupKind kind_;
  Event* event_ = nullptr;  // the record that it reads into
};

// Answers the kernel with the verdict of a call that has ended, and counts it.
void AnswerCall(ReaderContext& context, Event& event);

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_READER_H_
