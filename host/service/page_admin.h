// SPDX-License-Identifier: Apache-2.0
//
// PageAdmin: who is signed in to the page, and what those do there.
//
// The operators' socket knows its peers, and HTTP does not. So a right comes from the socket: an
// admin asks it for a link, whose secret the page exchanges, once and soon, for a session. Both
// secrets are 32 random bytes. The page keeps its own in memory and sends it as a bearer token: it
// is in no cookie, so no other site can have a browser send it, and none of it is kept on disk.
//
// The admin's right is looked up again with each request of its session: one that has left the
// group has lost it. An action may take as long as a driver's start; one runs at a time, in a
// thread of its own, and State() says how it goes.
#ifndef BULKHEAD_HOST_SERVICE_PAGE_ADMIN_H_
#define BULKHEAD_HOST_SERVICE_PAGE_ADMIN_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/supervisor/operator_rights.h"
#include "ipc/monotonic.h"
#include "ipc/mutex.h"

namespace bulkhead {

class PageAdmin {
 public:
  static constexpr uint64_t kLinkNs = 60 * kNanosecondsPerSecond;
  static constexpr uint64_t kSessionNs = 15 * 60 * kNanosecondsPerSecond;
  // Of all admins together: the oldest goes. Those that have ended count for nothing.
  static constexpr size_t kLinksMax = 8;
  static constexpr size_t kSessionsMax = 8;

  struct Hooks {
    std::function<bool(const OperatorPeer&)> may_change;  // now
    std::function<absl::Status()> reload;
    std::function<absl::Status(const std::string& driver)> release;
    std::function<void(const std::string& text)> used;  // what a user did here, for the events
    std::function<uint64_t()> now_ns = MonotonicNowNs;
  };
  explicit PageAdmin(Hooks hooks);
  // Waits for an action that runs.
  ~PageAdmin();
  PageAdmin(const PageAdmin&) = delete;
  PageAdmin& operator=(const PageAdmin&) = delete;

  // The secret of a link, for one that may_change(). Any thread, as all of these.
  std::string MakeLink(const OperatorPeer& who);
  // The secret of a session. Unauthenticated: the link is unknown, old or used.
  absl::StatusOr<std::string> SignIn(std::string_view link);

  // Of a session. All return Unauthenticated when there is none such, or it has ended, and end it
  // when its user may_change() no longer.
  absl::Status SignOut(std::string_view session);
  struct SessionState {
    uid_t user = 0;
    uint64_t left_ms = 0;
    std::string action;  // "reload", "release scanner": the last, by any session; empty: none yet
    bool running = false;
    std::string error;  // why it failed; empty: it has not
  };
  absl::StatusOr<SessionState> State(std::string_view session);
  // Unavailable: another action runs. OK: it has begun.
  absl::Status Reload(std::string_view session);
  absl::Status Release(std::string_view session, const std::string& driver);

 private:
  struct Grant {
    std::string secret;
    OperatorPeer who;
    uint64_t until_ns = 0;
  };
  static std::string Add(std::deque<Grant>& grants, size_t max, OperatorPeer who,
                         uint64_t until_ns);
  // End when there is none. Forgets what is old.
  std::deque<Grant>::iterator Find(std::deque<Grant>& grants, std::string_view secret)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The session, whose user has its right.
  absl::StatusOr<Grant> Holder(std::string_view session) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Begin(std::string_view session, const std::string& name,
                     std::function<absl::Status()> action);
  void Act();

  const Hooks hooks_;
  Mutex mutex_;
  CondVar asked_;
  std::deque<Grant> links_ ABSL_GUARDED_BY(mutex_), sessions_ ABSL_GUARDED_BY(mutex_);
  std::function<absl::Status()> next_ ABSL_GUARDED_BY(mutex_);  // set: it runs, or will
  std::string name_ ABSL_GUARDED_BY(mutex_), error_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_PAGE_ADMIN_H_
