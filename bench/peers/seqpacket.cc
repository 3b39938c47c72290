// SPDX-License-Identifier: Apache-2.0
//
// A pair of Unix sockets that keep messages apart.
#include <sys/socket.h>

#include <cerrno>

#include "bench/peers/transport.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

bool Send(const UniqueFd& socket, const Payload& payload) {
  return send(socket.get(), &payload, sizeof(payload), MSG_NOSIGNAL) == ssize_t{sizeof(payload)};
}
bool Receive(const UniqueFd& socket, Payload& payload) {
  return recv(socket.get(), &payload, sizeof(payload), 0) == ssize_t{sizeof(payload)};
}

class Seqpacket final : public Transport {
 public:
  absl::Status Prepare() override {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
      return absl::ErrnoToStatus(errno, "socketpair");
    }
    client_.reset(sockets[0]);
    server_.reset(sockets[1]);
    return absl::OkStatus();
  }

  void Serve() override {
    Payload payload;
    if (!Receive(server_, payload)) return;
    Answer(payload);
    (void)Send(server_, payload);
  }

  bool Call(Payload& payload) override {
    return Send(client_, payload) && Receive(client_, payload);
  }

 private:
  UniqueFd client_, server_;
};

}  // namespace

std::unique_ptr<Transport> MakeSeqpacket() { return std::make_unique<Seqpacket>(); }

}  // namespace bulkhead
