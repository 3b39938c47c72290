// SPDX-License-Identifier: Apache-2.0
//
// LogLimit: passes on so many lines in a time and counts the rest, for what others can cause
// without limit: errors in a guarded directory, lines of a driver.
//
// Not thread-safe: the owner's lock protects it.
#ifndef BULKHEAD_IPC_LOG_LIMIT_H_
#define BULKHEAD_IPC_LOG_LIMIT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"

namespace bulkhead {

class LogLimit {
 public:
  static constexpr uint32_t kLinesMax = 10;  // a minute
  static constexpr uint64_t kMinuteNs = 60 * kNanosecondsPerSecond;

  // `of` begins the line that counts the rest.
  explicit LogLimit(std::function<void(const std::string&)> log, uint32_t lines_max = kLinesMax,
                    uint64_t time_ns = kMinuteNs, std::string of = "")
      : log_(std::move(log)), lines_max_(lines_max), time_ns_(time_ns), of_(std::move(of)) {}

  // False: the line was left out.
  bool Log(const std::string& line, uint64_t now_ns) {
    TellLeftOut(now_ns);
    if (now_ns >= ends_ns_) {
      ends_ns_ = now_ns + time_ns_;
      lines_ = 0;
    }
    if (lines_ == lines_max_) {
      ++left_out_;
      return false;
    }
    ++lines_;
    log_(line);
    return true;
  }

  // Logs how many lines were left out, if any, once the time is over; kForeverNs: at once.
  void TellLeftOut(uint64_t now_ns) {
    if (left_out_ == 0 || now_ns < ends_ns_) return;
    log_(absl::StrCat(of_, "and ", left_out_, " more like these"));
    left_out_ = 0;
  }

 private:
  const std::function<void(const std::string&)> log_;
  const uint32_t lines_max_;
  const uint64_t time_ns_;
  const std::string of_;
  uint64_t ends_ns_ = 0;
  uint32_t lines_ = 0;
  uint64_t left_out_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_LOG_LIMIT_H_
