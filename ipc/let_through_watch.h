// SPDX-License-Identifier: Apache-2.0
//
// LetThroughWatch: turns a counter of what was let through without a driver's decision into what a
// status shows of it, and when it is to be told.
//
// Not thread-safe: the owner's lock protects it.
#ifndef BULKHEAD_IPC_LET_THROUGH_WATCH_H_
#define BULKHEAD_IPC_LET_THROUGH_WATCH_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"

namespace bulkhead {

class LetThroughWatch {
 public:
  // So long status and its check speak of the last one: a check every few minutes sees it.
  static constexpr uint64_t kShownNs = 600 * kNanosecondsPerSecond;
  static constexpr uint64_t kToldEveryNs = 10 * kNanosecondsPerSecond;

  struct Seen {
    uint64_t calls = 0;    // to be shown; 0: none
    uint64_t ago_ns = 0;   // since the last one was noted
    uint64_t to_tell = 0;  // that were not told yet, when it is time to
  };

  // What it has counted before the owner's time is not shown.
  void Begin(uint64_t count) { count_ = count; }

  // A counter that is less than before has begun anew. `now_ns` never goes back.
  Seen Note(uint64_t count, uint64_t now_ns) {
    const uint64_t more = count < count_ ? count : count - count_;
    count_ = count;
    if (now_ns - at_ns_ > kShownNs) calls_ = 0;
    if (more != 0) at_ns_ = now_ns;
    calls_ += more;
    untold_ += more;
    Seen seen = {.calls = calls_, .ago_ns = now_ns - at_ns_};
    if (untold_ != 0 && (told_ns_ == 0 || now_ns - told_ns_ >= kToldEveryNs)) {
      told_ns_ = now_ns;
      seen.to_tell = std::exchange(untold_, 0);
    }
    return seen;
  }

  // "calls let through without its decision: 3, the last 5 s ago"
  static std::string Text(const Seen& seen, const char* what, const char* without) {
    return absl::StrCat(what, " let through without ", without, ": ", seen.calls, ", the last ",
                        seen.ago_ns / kNanosecondsPerSecond, " s ago");
  }

 private:
  uint64_t count_ = 0;
  uint64_t calls_ = 0;
  uint64_t untold_ = 0;
  uint64_t at_ns_ = 0;
  uint64_t told_ns_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_LET_THROUGH_WATCH_H_
