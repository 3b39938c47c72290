// SPDX-License-Identifier: Apache-2.0
//
// NotifySocket: the service manager's end of sd_notify(3).
#ifndef BULKHEAD_TESTS_TESTING_NOTIFY_SOCKET_H_
#define BULKHEAD_TESTS_TESTING_NOTIFY_SOCKET_H_

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <sstream>
#include <string>
#include <vector>

#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

inline constexpr uint64_t kSoonNs = 60 * kNanosecondsPerSecond;

class NotifySocket {
 public:
  explicit NotifySocket(const std::string& path)
      : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    bound_ = bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  bool bound() const { return bound_; }

  // Reads until a message has a line that begins so; that line, or nothing when none comes.
  std::string Await(const std::string& begin) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (PollUntil(socket_.get(), POLLIN, until_ns)) {
      char bytes[8192];
      const ssize_t size = recv(socket_.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
      if (size < 0) continue;
      std::istringstream lines(std::string(bytes, static_cast<size_t>(size)));
      for (std::string line; std::getline(lines, line);) {
        heard_.push_back(line);
        if (line.starts_with(begin)) return line;
      }
    }
    return "";
  }
  const std::vector<std::string>& heard() const { return heard_; }
  // What the process before has said is not the next one's.
  void Forget() {
    char byte;
    while (recv(socket_.get(), &byte, sizeof(byte), MSG_DONTWAIT) >= 0) {
    }
  }

 private:
  const UniqueFd socket_;
  bool bound_ = false;
  std::vector<std::string> heard_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_NOTIFY_SOCKET_H_
