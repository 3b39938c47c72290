// SPDX-License-Identifier: Apache-2.0
//
// Completer: advances the calls that no reader waits for any more. One thread, thousands of calls:
// it polls all of them every `period`, which grows with their number and stays far below the 100 ms
// that an answer may be late. For a single call it sleeps until the reply or the deadline.
#ifndef BULKHEAD_SHIM_FANOTIFY_COMPLETER_H_
#define BULKHEAD_SHIM_FANOTIFY_COMPLETER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "shim/fanotify/event_table.h"
#include "shim/fanotify/stop_signal.h"

namespace bulkhead {

class Completer {
 public:
  // `complete` answers the kernel, from the completer's thread. With StopMode::kNow calls are
  // cancelled first; their outcome is then BH_OUTCOME_CANCELLED.
  Completer(const StopSignal* stop, std::function<void(Event&)> complete);

  // The call has begun, and belongs to the completer from here on.
  void Park(Event* event);
  // Calls that are parked. SUBTLE: possibly a moment old. A reader uses it to decide whether to
  // wait for an answer itself; a wrong decision costs time and nothing else.
  uint32_t parked() const { return parked_.load(std::memory_order_relaxed); }
  // To be called after a StopSignal was raised.
  void Wake();

  // The thread; never returns.
  void Run();

 private:
  bool Step(Event& event);

  const StopSignal* const stop_;
  const std::function<void(Event&)> complete_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Event*> inbox_;
  std::atomic<uint32_t> parked_{0};
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_COMPLETER_H_
