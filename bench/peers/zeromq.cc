// SPDX-License-Identifier: Apache-2.0
//
// ZeroMQ's request and reply sockets over ipc://. The abstract address leaves no file.
#include <unistd.h>
#include <zmq.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "bench/peers/transport.h"

namespace bulkhead {
namespace {

absl::Status Failed(const char* what) {
  return absl::InternalError(absl::StrCat(what, ": ", zmq_strerror(zmq_errno())));
}

class ZeroMq final : public Transport {
 public:
  bool HasThreads() const override { return true; }

  absl::Status Prepare() override {
    address_ = absl::StrCat("ipc://@bulkhead-bench-", getpid());
    return absl::OkStatus();
  }

  absl::Status StartServer() override {
    socket_ = zmq_socket(zmq_ctx_new(), ZMQ_REP);
    return zmq_bind(socket_, address_.c_str()) == 0 ? absl::OkStatus() : Failed("zmq_bind");
  }

  absl::Status StartClient() override {
    socket_ = zmq_socket(zmq_ctx_new(), ZMQ_REQ);
    return zmq_connect(socket_, address_.c_str()) == 0 ? absl::OkStatus() : Failed("zmq_connect");
  }

  void Serve() override {
    Payload payload;
    if (!Receive(payload)) return;
    Answer(payload);
    (void)Send(payload);
  }

  bool Call(Payload& payload) override { return Send(payload) && Receive(payload); }

 private:
  bool Send(const Payload& payload) {
    return zmq_send(socket_, &payload, sizeof(payload), 0) == int{sizeof(payload)};
  }
  bool Receive(Payload& payload) {
    return zmq_recv(socket_, &payload, sizeof(payload), 0) == int{sizeof(payload)};
  }

  std::string address_;
  void* socket_ = nullptr;  // it and its context last as long as the process
};

}  // namespace

std::unique_ptr<Transport> MakeZeroMq() { return std::make_unique<ZeroMq>(); }

}  // namespace bulkhead
