// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_DEATH_WATCH_H_
#define BULKHEAD_HOST_SUPERVISOR_DEATH_WATCH_H_

#include <functional>
#include <thread>
#include <utility>

#include "ipc/life_line_unsafe.h"

namespace bulkhead {

// DeathWatch: a thread that waits at a host's life line until all who held it have ended, and says
// so once. It says nothing behind the destructor, which does not wait for the host.
class DeathWatch {
 public:
  // `on_end` is called from the thread. REQUIRES: the lines are held.
  DeathWatch(LifeLine line, std::function<void()> on_end)
      : line_(std::move(line)), thread_([this, on_end = std::move(on_end)] {
          if (line_.WaitForEnds()) on_end();
        }) {}
  DeathWatch(const DeathWatch&) = delete;
  DeathWatch& operator=(const DeathWatch&) = delete;
  ~DeathWatch() {
    line_.Cut();
    thread_.join();
  }

 private:
  LifeLine line_;
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_DEATH_WATCH_H_
