// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_LOOP_INBOX_H_
#define BULKHEAD_HOST_SUPERVISOR_LOOP_INBOX_H_

#include <sys/eventfd.h>
#include <unistd.h>

#include <functional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "ipc/check.h"
#include "ipc/mutex.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// LoopInbox: what other threads have for a supervisor's loop. Shared by all that post, so that a
// thread that outlives the supervisor (one that a shim never answers) posts to a closed inbox.
//
// Threads: Post and Close from any thread; Run from the loop.
class LoopInbox {
 public:
  using Command = absl::AnyInvocable<void()>;

  LoopInbox() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { BULKHEAD_CHECK(wake_.valid()); }

  // Dropped when the inbox is closed.
  void Post(Command command) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      const MutexLock lock(mutex_);
      if (closed_) return;
      commands_.push_back(std::move(command));
    }
    const uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof(one));
  }

  // Runs what was posted before the call, in order.
  void Run() ABSL_LOCKS_EXCLUDED(mutex_) {
    uint64_t count;
    (void)!read(wake_.get(), &count, sizeof(count));
    std::vector<Command> commands;
    {
      const MutexLock lock(mutex_);
      commands.swap(commands_);
    }
    for (Command& command : commands) command();
  }

  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<Command> dropped;  // destroyed without the lock
    const MutexLock lock(mutex_);
    closed_ = true;
    dropped.swap(commands_);
  }

  int fd() const { return wake_.get(); }  // readable when something was posted

 private:
  const UniqueFd wake_;
  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_LOOP_INBOX_H_
