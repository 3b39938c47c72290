// SPDX-License-Identifier: Apache-2.0
//
// A pipe for each direction. A write of 48 bytes is atomic (PIPE_BUF), so a read gets all of it.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "bench/peers/transport.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

bool Send(const UniqueFd& to, const Payload& payload) {
  return write(to.get(), &payload, sizeof(payload)) == ssize_t{sizeof(payload)};
}
bool Receive(const UniqueFd& from, Payload& payload) {
  return read(from.get(), &payload, sizeof(payload)) == ssize_t{sizeof(payload)};
}

class Pipe final : public Transport {
 public:
  absl::Status Prepare() override {
    int call[2], reply[2];
    if (pipe2(call, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe2");
    call_read_.reset(call[0]);
    call_write_.reset(call[1]);
    if (pipe2(reply, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe2");
    reply_read_.reset(reply[0]);
    reply_write_.reset(reply[1]);
    return absl::OkStatus();
  }

  void Serve() override {
    Payload payload;
    if (!Receive(call_read_, payload)) return;
    Answer(payload);
    (void)Send(reply_write_, payload);
  }

  bool Call(Payload& payload) override {
    return Send(call_write_, payload) && Receive(reply_read_, payload);
  }

 private:
  UniqueFd call_read_, call_write_, reply_read_, reply_write_;
};

}  // namespace

std::unique_ptr<Transport> MakePipe() { return std::make_unique<Pipe>(); }

}  // namespace bulkhead
