// SPDX-License-Identifier: Apache-2.0
//
// FanotifyResponder: the least that a fanotify permission group can cost. One thread that waits
// in read, allows what it reads at once, and looks at nothing. The group and its mark are made as
// the product makes its own (host/attachment/fanotify/fanotify_group.h). Waiting in poll costs a
// system call more for each event; reading again and again without waiting takes the opener's CPU
// away.
#ifndef BULKHEAD_BENCH_FANOTIFY_RESPONDER_H_
#define BULKHEAD_BENCH_FANOTIFY_RESPONDER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "bench/bounded_thread.h"
#include "host/attachment/fanotify/fanotify_group.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class FanotifyResponder {
 public:
  static absl::StatusOr<std::unique_ptr<FanotifyResponder>> Start(const std::string& folder);
  // REQUIRES: no thread opens in the folder any more, and this process is the one that started it.
  ~FanotifyResponder();

  uint64_t answered() const { return answered_.load(); }

 private:
  FanotifyResponder(FanotifyGroup group, const std::string& folder)
      : group_(std::move(group)), last_(folder + "/.last") {}
  void Answer();

  FanotifyGroup group_;
  const std::string last_;  // opened by the destructor; the thread's last answer
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> answered_{0};
  BoundedThread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_FANOTIFY_RESPONDER_H_
