// SPDX-License-Identifier: Apache-2.0
//
// LogLimit: passes on a few lines a minute and counts the rest, for errors that the owner of a
// guarded directory can cause without limit.
//
// Not thread-safe: the owner's lock protects it.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_LOG_LIMIT_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_LOG_LIMIT_H_

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

  explicit LogLimit(std::function<void(const std::string&)> log) : log_(std::move(log)) {}

  void Log(const std::string& line, uint64_t now_ns) {
    TellLeftOut(now_ns);
    if (now_ns >= minute_ends_ns_) {
      minute_ends_ns_ = now_ns + kMinuteNs;
      lines_ = 0;
    }
    if (lines_ == kLinesMax) {
      ++left_out_;
      return;
    }
    ++lines_;
    log_(line);
  }

  // Logs how many lines were left out, if any, once the minute has ended; kForeverNs: at once.
  void TellLeftOut(uint64_t now_ns) {
    if (left_out_ == 0 || now_ns < minute_ends_ns_) return;
    log_(absl::StrCat("and ", left_out_, " more like these"));
    left_out_ = 0;
  }

 private:
  const std::function<void(const std::string&)> log_;
  uint64_t minute_ends_ns_ = 0;
  uint32_t lines_ = 0;
  uint64_t left_out_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_LOG_LIMIT_H_
