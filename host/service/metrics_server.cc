// SPDX-License-Identifier: Apache-2.0
#include "host/service/metrics_server.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

struct Address {
  sockaddr_storage storage = {};
  socklen_t size = 0;
  std::string path;  // of a Unix socket
};

absl::Status Wrong(const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", text,
                   "' is not a loopback address with a port (127.0.0.1:9464, [::1]:9464), nor the "
                   "absolute path of a socket"));
}

absl::StatusOr<Address> UnixAddress(const std::string& path) {
  Address address;
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof(name.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", path, "' is too long for a socket: at most ", sizeof(name.sun_path) - 1, " bytes"));
  }
  path.copy(name.sun_path, path.size());
  std::memcpy(&address.storage, &name, sizeof(name));
  address.size = sizeof(name);
  address.path = path;
  return address;
}

absl::StatusOr<Address> ParseAddress(const std::string& text) {
  if (text.starts_with('/')) return UnixAddress(text);
  const size_t colon = text.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(text.substr(colon + 1), &port) ||
      port > UINT16_MAX) {
    return Wrong(text);
  }
  const std::string host = text.substr(0, colon);
  Address address;
  sockaddr_in four = {};
  sockaddr_in6 six = {};
  if (inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
    if ((ntohl(four.sin_addr.s_addr) >> 24) != IN_LOOPBACKNET) return Wrong(text);
    four.sin_family = AF_INET;
    four.sin_port = htons(static_cast<uint16_t>(port));
    std::memcpy(&address.storage, &four, sizeof(four));
    address.size = sizeof(four);
    return address;
  }
  if (host != "[::1]" || inet_pton(AF_INET6, "::1", &six.sin6_addr) != 1) return Wrong(text);
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(static_cast<uint16_t>(port));
  std::memcpy(&address.storage, &six, sizeof(six));
  address.size = sizeof(six);
  return address;
}

absl::Status CantListen(const std::string& address) {
  return absl::UnavailableError(
      absl::StrCat("can't listen for readers of metrics on ", address, ": ", std::strerror(errno),
                   errno == EADDRINUSE ? "; choose another address (metrics)" : ""));
}

// A process that was killed leaves its socket; one that listens keeps it.
absl::Status RemoveDead(const Address& address) {
  struct stat status = {};
  if (lstat(address.path.c_str(), &status) != 0) return absl::OkStatus();
  if (!S_ISSOCK(status.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(address.path, " is not a socket"));
  }
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto* name = reinterpret_cast<const sockaddr*>(&address.storage);
  if (connect(probe.get(), name, address.size) == 0 || errno != ECONNREFUSED) {
    return absl::AlreadyExistsError(absl::StrCat("another process listens on ", address.path,
                                                 "; choose another path (metrics)"));
  }
  if (unlink(address.path.c_str()) != 0) return CantListen(address.path);
  return absl::OkStatus();
}

MHD_Result Reply(MHD_Connection* connection, const WebAnswer& answer, bool close) {
  MHD_Response* response = MHD_create_response_from_buffer(
      answer.body.size(), const_cast<char*>(answer.body.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type);
  for (const WebHeader& header : WebHeaders()) {
    MHD_add_response_header(response, header.name, header.value);
  }
  if (answer.status == MHD_HTTP_UNAUTHORIZED) {
    MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
  }
  if (close) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  const MHD_Result queued = MHD_queue_response(connection, answer.status, response);
  MHD_destroy_response(response);
  return queued;
}

MHD_Result Handle(void* context, MHD_Connection* connection, const char* url, const char* method,
                  const char*, const char*, size_t*, void**) {
  const auto value = [connection](MHD_ValueKind kind, const char* name) {
    const char* text = MHD_lookup_connection_value(connection, kind, name);
    return std::string_view(text == nullptr ? "" : text);
  };
  const WebRequest request = {
      .method = method,
      .path = url,
      .host = value(MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST),
      .fetch_site = value(MHD_HEADER_KIND, "Sec-Fetch-Site"),
      .fetch_mode = value(MHD_HEADER_KIND, "Sec-Fetch-Mode"),
      .origin = value(MHD_HEADER_KIND, MHD_HTTP_HEADER_ORIGIN),
      .authorization = value(MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION),
      .after = value(MHD_GET_ARGUMENT_KIND, "after"),
      .driver = value(MHD_GET_ARGUMENT_KIND, "driver")};
  // A browser keeps up to six connections of a page, which would be missing for others.
  const bool close = request.path != "/metrics";
  return Reply(connection, Answer(request, *static_cast<const WebSources*>(context)), close);
}

}  // namespace

absl::Status CheckMetricsAddress(const std::string& address) {
  return ParseAddress(address).status();
}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Listen(
    const std::string& text_address, WebSources sources) {
  absl::StatusOr<Address> address = ParseAddress(text_address);
  if (!address.ok()) return address.status();
  if (!address->path.empty()) {
    if (absl::Status status = RemoveDead(*address); !status.ok()) return status;
  }
  UniqueFd socket_fd(
      socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int yes = 1;
  if (!socket_fd.valid()) return CantListen(text_address);
  setsockopt(socket_fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  auto* name = reinterpret_cast<sockaddr*>(&address->storage);
  if (!address->path.empty()) fchmod(socket_fd.get(), 0660);  // before it has a name
  if (bind(socket_fd.get(), name, address->size) != 0 ||
      listen(socket_fd.get(), kConnectionsMax) != 0) {
    return CantListen(text_address);
  }
  std::unique_ptr<MetricsServer> server(new MetricsServer);
  server->path_ = address->path;
  if (address->path.empty()) {
    socklen_t size = sizeof(address->storage);
    getsockname(socket_fd.get(), name, &size);
    server->port_ = ntohs(address->storage.ss_family == AF_INET
                              ? reinterpret_cast<const sockaddr_in*>(name)->sin_port
                              : reinterpret_cast<const sockaddr_in6*>(name)->sin6_port);
  }
  server->sources_ = std::move(sources);
  server->daemon_ = MHD_start_daemon(
      MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, nullptr, nullptr, Handle,
      &server->sources_, MHD_OPTION_LISTEN_SOCKET, socket_fd.get(), MHD_OPTION_CONNECTION_LIMIT,
      static_cast<unsigned>(kConnectionsMax), MHD_OPTION_CONNECTION_TIMEOUT, kIdleSecondsMax,
      MHD_OPTION_END);
  if (server->daemon_ == nullptr) {
    errno = ENOMEM;
    return CantListen(text_address);
  }
  (void)socket_fd.release();  // the daemon's
  return server;
}

MetricsServer::~MetricsServer() {
  if (daemon_ != nullptr) MHD_stop_daemon(daemon_);
  if (!path_.empty()) unlink(path_.c_str());
}

}  // namespace bulkhead
