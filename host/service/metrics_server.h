// SPDX-License-Identifier: Apache-2.0
//
// MetricsServer: answers over HTTP, on this machine only: on a loopback address or a Unix socket.
// web_page.h has what it answers.
//
// Threads: one of its own answers; the sources are called from it.
#ifndef BULKHEAD_HOST_SERVICE_METRICS_SERVER_H_
#define BULKHEAD_HOST_SERVICE_METRICS_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/service/web_page.h"

struct MHD_Daemon;

namespace bulkhead {

// "127.0.0.1:9464", "[::1]:9464", or the absolute path of a socket. InvalidArgument says what is
// expected.
absl::Status CheckMetricsAddress(const std::string& address);

class MetricsServer {
 public:
  static constexpr int kConnectionsMax = 16;
  static constexpr unsigned kIdleSecondsMax = 10;  // of a connection that sends or reads nothing

  // The socket's file is made for its owner and group, and replaces a socket on which no process
  // listens. AlreadyExists: another process listens there.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Listen(const std::string& address,
                                                               WebSources sources);
  ~MetricsServer();
  uint16_t port() const { return port_; }  // 0: it is a Unix socket

 private:
  MetricsServer() = default;

  WebSources sources_;
  MHD_Daemon* daemon_ = nullptr;
  uint16_t port_ = 0;
  std::string path_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_METRICS_SERVER_H_
