// SPDX-License-Identifier: Apache-2.0
//
// Dispatcher: carries calls from the channel to the driver's callbacks and verdicts back, on as
// many threads as the driver has workers, and does for the driver what bulkhead_host promises.
#ifndef BULKHEAD_HOST_PROCESS_DISPATCHER_H_
#define BULKHEAD_HOST_PROCESS_DISPATCHER_H_

#include <bulkhead/driver.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "host/process/call_table.h"
#include "host/process/checkpoint.h"
#include "host/process/driver_library.h"
#include "host/process/log_queue.h"
#include "ipc/control/host_protocol.h"
#include "ipc/host_port.h"
#include "ipc/life_line_unsafe.h"
#include "ipc/shared_memory.h"

namespace bulkhead {

class Dispatcher {
 public:
  // All of these outlive the dispatcher. `checkpoint` may be null: no memory for one.
  Dispatcher(const DriverLibrary& library, LogQueue* log, Checkpoint* checkpoint,
             std::span<std::byte> checkpoint_memory);
  virtual ~Dispatcher() = default;
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // Calls the driver's start(). FailedPrecondition with its own words when it can't serve.
  absl::Status StartDriver(const AttachFields& attach);
  // Takes calls from here on, and notifications, where there are any, in a thread of their own.
  // Every thread that does holds a line of `life_line` by the time this returns.
  absl::Status Serve(std::unique_ptr<HostPort> port, uint32_t workers, LifeLine* life_line,
                     std::unique_ptr<NotificationReader> notifications = nullptr);
  // Waits for the calls in hand and the pending ones, then calls the driver's stop().
  void Finish();

  uint64_t calls() const { return port_ ? port_->counters().calls : 0; }

 protected:
  // Gives a notification to the driver. On the thread that tells them.
  virtual void Deliver(const bulkhead_notification& notification) {
    driver_.notify(state_, &notification);
  }

 private:
  void Run(uint32_t line, LifeLine* life_line, std::function<void()> serve);
  void Work(uint32_t worker);
  void Answer(TakenCall& call, CallTable::Entry** entry);
  void Send(TakenCall& call, const bulkhead_answer& answer);
  void Tell();
  // A driver that makes a mistake makes it at every call: the host says so once for each.
  enum Mistake { kEmptyAnswer, kMayKeepNone, kAnsweredTwice, kNotPending, kNoAnswer, kMistakes };
  void Report(Mistake mistake, uint32_t callback);

  const DriverLibrary& library_;
  const bulkhead_driver_description& driver_;
  LogQueue* const log_;
  Checkpoint* const checkpoint_;
  bulkhead_host host_ = {};
  void* state_ = nullptr;
  bool started_ = false;
  std::atomic<bool> reported_[kMistakes] = {};
  std::unique_ptr<CallTable> calls_in_hand_;
  std::unique_ptr<HostPort> port_;
  std::unique_ptr<NotificationReader> notifications_;  // null: none; before the port
  std::vector<std::thread> threads_;
  std::mutex held_mutex_;
  std::condition_variable held_changed_;
  size_t held_ = 0;           // threads that tried to hold their line
  absl::Status held_status_;  // of the first one that could not

  // bulkhead_host's functions; context is the dispatcher.
  static void Log(void* context, uint32_t level, const char* text, size_t length);
  static uint64_t TimeLeft(void* context, const bulkhead_call* call);
  static const void* MapFile(void* context, const bulkhead_call* call, const bulkhead_file* file,
                             size_t* length);
  static int Complete(void* context, const bulkhead_call* call, const bulkhead_answer* answer);
  static int Save(void* context, const void* record, size_t bytes);
  static long Load(void* context, void* record, size_t capacity);
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_DISPATCHER_H_
