// SPDX-License-Identifier: Apache-2.0
//
// ServiceLog: what a service says, on standard error or to systemd's journal. A thread of its own
// writes, so that no other waits for a reader: what finds no room is dropped, counted, and told
// when there is room. What a driver says is limited, too, and a line that comes again and again is
// counted. On a terminal one line about what runs is always the last.
//
//   text      the line
//   json      an object a line, as EventJson() has it; of a line that is no event without "event"
//   journal   with the fields BULKHEAD_EVENT, BULKHEAD_DRIVER … beside MESSAGE and PRIORITY
//
// Any thread may call it.
#ifndef BULKHEAD_HOST_SERVICE_SERVICE_LOG_H_
#define BULKHEAD_HOST_SERVICE_SERVICE_LOG_H_

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "host/service/service_config.h"
#include "host/supervisor/driver_event.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/log_limit.h"
#include "ipc/monotonic.h"

namespace bulkhead {

class ServiceLog {
 public:
  static constexpr size_t kLinesMax = 1000;  // that wait to be written
  // Of one driver's own words.
  static constexpr uint32_t kDriverLinesMax = 200;
  static constexpr uint64_t kDriverTimeNs = 10 * kNanosecondsPerSecond;
  // Of those that were left out, so many stand before the end of their host.
  static constexpr size_t kLastLinesMax = 64;

  static constexpr uint64_t kRepeatsToldNs = 10 * kNanosecondsPerSecond;

  // `quiet`: only what keeps it from protecting. `fd` stays the caller's, and must last as long as
  // the process.
  explicit ServiceLog(bool quiet, int fd = STDERR_FILENO, LogFormat format = LogFormat::kText);
  // Waits at most two seconds for what was not written yet.
  ~ServiceLog();
  ServiceLog(const ServiceLog&) = delete;
  ServiceLog& operator=(const ServiceLog&) = delete;

  void Event(const DriverEvent& event);
  void Text(const std::string& text);
  // Said even by a quiet service: what it is there for is not as it should be.
  void Warn(const std::string& text);
  // Once a second: what runs (on a terminal), and what was left out.
  void Show(const StatusFields& status, uint64_t events, double seconds);
  // Waits at most a second until nothing is left to be written; whether it is so.
  bool Flush();

 private:
  struct State;
  static void Write(const std::shared_ptr<State>& state);
  void Say(EventFields fields);
  void Push(EventFields fields);
  void TellRepeats(uint64_t now_ns);

  const bool quiet_;
  const LogFormat format_;
  const bool terminal_;
  const std::shared_ptr<State> state_;  // the thread's too, which may outlast this object
  std::mutex mutex_;
  struct DriverWords {
    LogLimit limit;
    std::deque<EventFields> left_out;  // the last ones
  };
  DriverWords& WordsOf(const std::string& driver);
  std::map<std::string, DriverWords> words_;  // by driver
  EventFields passing_;                       // the driver's line that a limit is asked about
  uint64_t events_before_ = 0;
  std::mutex said_mutex_;  // of the next three; taken after mutex_
  EventFields said_;       // last
  uint64_t repeats_ = 0;   // of that
  uint64_t said_ns_ = 0;
  std::thread writer_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_SERVICE_LOG_H_
