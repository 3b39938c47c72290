// SPDX-License-Identifier: Apache-2.0
//
// Answers later: keeps each call, and completes them in random order from threads of its own. Even
// inodes are allowed, odd ones denied with EACCES, if the call is still as it was in its callback
// when it is completed: its path is "/p/" and the inode, and file_exec gets a file of that content.
//
// With "forget" no call reaches a thread: the driver says that the answer comes later, and gives
// none.
//
// Other options: "hold=N" completes none before N are pending, "quota=N" completes N and keeps the
// rest for ever; both are "hold=N quota=M". Some paths mean something else:
//   /count N  answered at once: allowed if N calls are pending
//   /never    kept for ever
//   /both     completed in the callback with an allowance, and denied by the callback
//   /early    completed in the callback, which then says that the answer comes later
//   /twice    completed twice by a thread: allowed, and logged if the second was not refused
//   /crash    the thread that picks it aborts
#include <bulkhead/driver.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr int kThreads = 3;

class Later : public bulkhead::Driver {
  void start(const bulkhead::StartInfo& info) override {
    host_ = info.host.c();
    forget_ = info.options == "forget";
    info.host.info("may have " + std::to_string(info.pending_calls_max) + " pending");
    hold_ = Option(info.options, "hold=", 0);
    quota_ = Option(info.options, "quota=", SIZE_MAX);
    for (int i = 0; i < kThreads; ++i) {
      threads_.emplace_back([this, i] { Complete(std::mt19937(static_cast<unsigned>(i))); });
    }
  }
  void stop() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    bulkhead::Host(host_).info("stopped with " + std::to_string(pending_) + " pending, at most " +
                               std::to_string(most_));
  }

  bulkhead::Verdict file_open(const bulkhead::FileEvent& file) override {
    if (forget_) return bulkhead::pending();
    const std::string path(file.path());
    if (path.starts_with("/count ")) {
      const std::lock_guard<std::mutex> lock(mutex_);
      return pending_ == std::stoul(path.substr(7)) ? bulkhead::allow() : bulkhead::deny();
    }
    bulkhead::PendingCall call(file);
    if (path == "/both") {
      call.complete(bulkhead::allow());
      return bulkhead::deny(EACCES).because("of its callback");
    }
    if (path == "/early") {
      call.complete(bulkhead::deny(EACCES).because(std::string(100, 'y')));
      return bulkhead::pending();
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++pending_;
      most_ = std::max(most_, pending_);
      (path == "/never" ? never_ : calls_).push_back(std::move(call));
      if (pending_ >= hold_) hold_ = 0;
    }
    changed_.notify_all();
    return bulkhead::pending();
  }
  bulkhead::Verdict file_exec(const bulkhead::FileEvent& file) override { return file_open(file); }

  static size_t Option(const std::string& options, const std::string& name, size_t otherwise) {
    const size_t at = options.find(name);
    return at == std::string::npos ? otherwise : std::stoul(options.substr(at + name.size()));
  }

  void Complete(std::mt19937 random) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock,
                    [this] { return stop_ || (hold_ == 0 && quota_ > 0 && !calls_.empty()); });
      if (calls_.empty() && stop_) return;
      std::swap(calls_[random() % calls_.size()], calls_.back());
      bulkhead::PendingCall call = std::move(calls_.back());
      calls_.pop_back();
      --pending_;
      --quota_;
      lock.unlock();
      if (call.file().path() == "/crash") std::abort();
      call.file().path() == "/twice" ? Twice(std::move(call)) : Once(std::move(call));
      lock.lock();
    }
  }
  static void Once(bulkhead::PendingCall call) {
    const uint64_t inode = call.file().inode();
    const bool whole = AsSent(call.file());
    call.complete(!whole           ? bulkhead::decline()
                  : inode % 2 == 0 ? bulkhead::allow()
                                   : bulkhead::deny(EACCES));
  }
  void Twice(bulkhead::PendingCall call) {
    bulkhead::PendingCall again(call.file());
    call.complete(bulkhead::allow());
    if (again.complete(bulkhead::deny()) || errno != ESTALE) {
      bulkhead::Host(host_).error("a second completion was not refused");
    }
  }
  static bool AsSent(const bulkhead::FileEvent& file) {
    const std::string path = "/p/" + std::to_string(file.inode());
    if (file.path() != path || file.time_left() <= std::chrono::nanoseconds(0)) return false;
    if (file.descriptor() < 0) return true;
    const auto bytes = file.map();
    return bytes && bytes->size() == path.size() &&
           std::memcmp(bytes->data(), path.data(), path.size()) == 0;
  }

  const bulkhead_host* host_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bulkhead::PendingCall> calls_, never_;
  size_t pending_ = 0, most_ = 0, hold_ = 0, quota_ = SIZE_MAX;
  bool forget_ = false, stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

BULKHEAD_DRIVER(Later, "later", "1", BULKHEAD_ON_FILE_OPEN | BULKHEAD_ON_FILE_EXEC,
                BULKHEAD_ON_FILE_EXEC)
