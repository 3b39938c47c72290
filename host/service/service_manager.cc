// SPDX-License-Identifier: Apache-2.0
#include "host/service/service_manager.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "host/service/printable.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kNanosecondsPerMicrosecond = 1000;
constexpr size_t kStatesMax = 16;  // a manager that reads nothing is told of the newest

}  // namespace

ServiceManager::ServiceManager() {
  uint64_t limit_us = 0;
  // A third of the limit: one look that comes late must not end the service.
  if (sd_watchdog_enabled(/*unset_environment=*/0, &limit_us) > 0) {
    alive_every_ns_ = limit_us * kNanosecondsPerMicrosecond / 3;
  }
  // A path, or a name without one behind an '@'.
  const char* address = getenv("NOTIFY_SOCKET");
  if (address == nullptr || (*address != '/' && *address != '@')) return;
  address_ = address;
  if (address_.size() >= sizeof(sockaddr_un::sun_path)) address_.clear();
  socket_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// False: it has no room now. Any other error is as if it had been told: it is gone.
bool ServiceManager::Deliver(const std::string& message) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  address_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  const ssize_t sent = sendto(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&address), length);
  return sent >= 0 || (errno != EAGAIN && errno != ENOBUFS);
}

void ServiceManager::Send(const std::string& state, const std::string& text) {
  if (address_.empty()) return;
  const MutexLock lock(mutex_);
  if (!state.empty()) states_.push_back(state);
  if (states_.size() > kStatesMax) states_.pop_front();
  if (!text.empty()) text_ = absl::StrCat("STATUS=", Printable(text));
  while (!states_.empty() && Deliver(states_.front())) states_.pop_front();
  if (states_.empty() && !text_.empty() && Deliver(text_)) text_.clear();
}

void ServiceManager::Starting(const std::string& text, uint64_t within_ns) {
  Send(absl::StrCat("EXTEND_TIMEOUT_USEC=", within_ns / kNanosecondsPerMicrosecond), text);
}

void ServiceManager::Ready(const std::string& text) { Send("READY=1", text); }

// MONOTONIC_USEC is what systemd 253 and later ask for with Type=notify-reload.
void ServiceManager::Reloading() {
  Send(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=", MonotonicNowNs() / kNanosecondsPerMicrosecond),
       "");
}

void ServiceManager::Stopping() { Send("STOPPING=1", ""); }

void ServiceManager::Says(const std::string& text) { Send("", text); }

// One that finds no room is not kept: the manager has some to read.
void ServiceManager::Alive() {
  if (alive_every_ns_ != 0 && !address_.empty()) (void)Deliver("WATCHDOG=1");
}

}  // namespace bulkhead
