// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SUPERVISOR_DEATH_WATCH_H_
#define BULKHEAD_HOST_SUPERVISOR_DEATH_WATCH_H_

#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "ipc/life_line_unsafe.h"

namespace bulkhead {

// DeathWatch: a thread that waits at a host's life line until all who held it have ended, and says
// so once. It says nothing behind the destructor, which does not wait for the host.
class DeathWatch {
 public:
  // `on_end` is called from the thread. Null: there is no thread to be had; a host that uses up all
  // that its control group may have must not take its supervisor along.
  // REQUIRES: the lines are held.
  static std::unique_ptr<DeathWatch> Start(LifeLine line, std::function<void()> on_end) {
    try {
      return std::unique_ptr<DeathWatch>(new DeathWatch(std::move(line), std::move(on_end)));
    } catch (const std::system_error&) {
      return nullptr;
    }
  }
  DeathWatch(const DeathWatch&) = delete;
  DeathWatch& operator=(const DeathWatch&) = delete;
  ~DeathWatch() {
    line_.Cut();
    thread_.join();
  }

 private:
  DeathWatch(LifeLine line, std::function<void()> on_end)
      : line_(std::move(line)), thread_([this, on_end = std::move(on_end)] {
          if (line_.WaitForEnds()) on_end();
        }) {}

  LifeLine line_;
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_DEATH_WATCH_H_
