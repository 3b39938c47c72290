// SPDX-License-Identifier: Apache-2.0
//
// Payloads in shared memory, and a futex word for each direction: both sides sleep.
#include "ipc/futex.h"

#include "bench/peers/shared_object.h"
#include "bench/peers/transport.h"
#include "ipc/abi/atomics.h"

namespace bulkhead {
namespace {

struct alignas(64) Message {
  uint32_t sequence;  // the futex
  Payload payload;
};
struct Messages {
  Message call, reply;
};

void Send(Message& message, const Payload& payload) {
  message.payload = payload;
  bh_store_release(&message.sequence, message.sequence + 1);
  FutexWake(&message.sequence, FutexScope::kShared, 1);
}

void Receive(const Message& message, uint32_t& last, Payload& payload) {
  while (bh_load_acquire(&message.sequence) == last) {
    FutexWait(&message.sequence, last, FutexScope::kShared, kForeverNs);
  }
  ++last;
  payload = message.payload;
}

class Futex final : public Transport {
 public:
  absl::Status Prepare() override { return messages_.Map(); }

  void Serve() override {
    Payload payload;
    Receive(messages_->call, last_, payload);
    Answer(payload);
    Send(messages_->reply, payload);
  }

  bool Call(Payload& payload) override {
    Send(messages_->call, payload);
    Receive(messages_->reply, last_, payload);
    return true;
  }

 private:
  SharedObject<Messages> messages_;
  uint32_t last_ = 0;  // the last sequence that this side has received
};

}  // namespace

std::unique_ptr<Transport> MakeFutex() { return std::make_unique<Futex>(); }

}  // namespace bulkhead
