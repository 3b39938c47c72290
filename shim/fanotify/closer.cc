// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/closer.h"

#include <unistd.h>

#include <chrono>
#include <system_error>
#include <thread>

namespace bulkhead {
namespace {

constexpr std::chrono::milliseconds kMoment(10);

}  // namespace

void Closer::Close(int descriptor) {
  std::unique_lock<std::mutex> lock(mutex_);
  waiting_.push_back(descriptor);
  count_.fetch_add(1, std::memory_order_relaxed);
  if (waiting_.size() > idle_ && threads_ < kThreadsMax) {
    try {
      std::thread([this] { Run(); }).detach();
      ++threads_;
    } catch (const std::system_error&) {
      // Those that there are close it; without any, this thread does.
      if (threads_ == 0) {
        waiting_.pop_back();
        lock.unlock();
        close(descriptor);
        count_.fetch_sub(1, std::memory_order_relaxed);
        return;
      }
    }
  }
  lock.unlock();
  changed_.notify_all();  // HasRoom() waits for it, too
}

bool Closer::HasRoom() {
  std::unique_lock<std::mutex> lock(mutex_);
  return waiting_.size() < kWaitingMax ||
         changed_.wait_for(lock, kMoment, [this] { return waiting_.size() < kWaitingMax; });
}

void Closer::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    ++idle_;
    changed_.wait(lock, [this] { return !waiting_.empty(); });
    --idle_;
    const int descriptor = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    close(descriptor);
    count_.fetch_sub(1, std::memory_order_relaxed);
    lock.lock();
  }
}

}  // namespace bulkhead
