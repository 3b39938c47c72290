// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_EXIT_WATCHER_H_
#define BULKHEAD_HOST_SUPERVISOR_EXIT_WATCHER_H_

#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "ipc/life_line_unsafe.h"

namespace bulkhead {

// ExitWatcher: a thread that waits at a host's life line until every thread that holds it has
// ended, and reports that once. After the destructor it reports nothing; the destructor does not
// wait for the host.
class ExitWatcher {
 public:
  // `on_end` is called from the thread. Null: no thread could be started. A host that uses up all
  // threads of its control group must not end its supervisor too.
  // REQUIRES: the lines are held.
  static std::unique_ptr<ExitWatcher> Start(LifeLine line, std::function<void()> on_end) {
    try {
      return std::unique_ptr<ExitWatcher>(new ExitWatcher(std::move(line), std::move(on_end)));
    } catch (const std::system_error&) {
      return nullptr;
    }
  }
  ExitWatcher(const ExitWatcher&) = delete;
  ExitWatcher& operator=(const ExitWatcher&) = delete;
  ~ExitWatcher() {
    line_.Cut();
    thread_.join();
  }

 private:
  ExitWatcher(LifeLine line, std::function<void()> on_end)
      : line_(std::move(line)), thread_([this, on_end = std::move(on_end)] {
          if (line_.WaitForEnds()) on_end();
        }) {}

  LifeLine line_;
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_EXIT_WATCHER_H_
