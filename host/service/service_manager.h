// SPDX-License-Identifier: Apache-2.0
//
// ServiceManager: what a service says to the manager that started it (systemd, or another that
// speaks sd_notify(3)). Without one every call does nothing.
//
// None waits: what the manager has no room for is sent again by Resend(), and not by sd_notify(),
// which would stop the service for as long as the manager is stopped.
//
// Threads: every function from any thread.
#ifndef BULKHEAD_HOST_SERVICE_SERVICE_MANAGER_H_
#define BULKHEAD_HOST_SERVICE_SERVICE_MANAGER_H_

#include <cstdint>
#include <deque>
#include <string>

#include "ipc/mutex.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class ServiceManager {
 public:
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the environment.
  ServiceManager();

  void Starting(const std::string& text,
                uint64_t within_ns);  // from now; more time than the unit's
  void Ready(const std::string& text);
  void Reloading();
  void Stopping();
  void Says(const std::string& text);  // one line of `systemctl status`
  // The service works. 0: the manager does not watch it. Else at least this often.
  void Alive();
  uint64_t alive_every_ns() const { return alive_every_ns_; }
  // There is one.
  bool present() const { return !address_.empty(); }
  // What found no room. Once a second.
  void Resend() { Send("", ""); }

 private:
  void Send(const std::string& state, const std::string& text) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Deliver(const std::string& message);

  uint64_t alive_every_ns_ = 0;
  std::string address_;  // of sun_path; empty: there is no manager
  UniqueFd socket_;
  Mutex mutex_;
  std::deque<std::string> states_ ABSL_GUARDED_BY(mutex_);  // that it was not told yet
  std::string text_ ABSL_GUARDED_BY(mutex_);                // likewise; the newest
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_SERVICE_MANAGER_H_
