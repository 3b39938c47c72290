// SPDX-License-Identifier: Apache-2.0
//
// A POSIX message queue for each direction, unlinked as soon as it is open: the server inherits it.
#include <fcntl.h>
#include <mqueue.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/peers/transport.h"

namespace bulkhead {
namespace {

absl::Status Open(const char* direction, mqd_t* queue) {
  mq_attr attributes = {};
  attributes.mq_maxmsg = 4;
  attributes.mq_msgsize = sizeof(Payload);
  const std::string name = absl::StrCat("/bulkhead-bench-", getpid(), "-", direction);
  *queue = mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
  if (*queue < 0) {
    const int error = errno;
    return absl::UnavailableError(std::string(
        absl::ErrnoToStatus(error, "this machine has no message queue for us").message()));
  }
  mq_unlink(name.c_str());
  return absl::OkStatus();
}

bool Send(mqd_t queue, const Payload& payload) {
  return mq_send(queue, reinterpret_cast<const char*>(&payload), sizeof(payload), 0) == 0;
}
bool Receive(mqd_t queue, Payload& payload) {
  return mq_receive(queue, reinterpret_cast<char*>(&payload), sizeof(payload), nullptr) ==
         ssize_t{sizeof(payload)};
}

class Mqueue final : public Transport {
 public:
  ~Mqueue() override {
    for (const mqd_t queue : {call_, reply_}) {
      if (queue >= 0) mq_close(queue);
    }
  }

  absl::Status Prepare() override {
    if (absl::Status status = Open("call", &call_); !status.ok()) return status;
    return Open("reply", &reply_);
  }

  void Serve() override {
    Payload payload;
    if (!Receive(call_, payload)) return;
    Answer(payload);
    (void)Send(reply_, payload);
  }

  bool Call(Payload& payload) override { return Send(call_, payload) && Receive(reply_, payload); }

 private:
  mqd_t call_ = -1, reply_ = -1;
};

}  // namespace

std::unique_ptr<Transport> MakeMqueue() { return std::make_unique<Mqueue>(); }

}  // namespace bulkhead
