// SPDX-License-Identifier: Apache-2.0
//
// A message_queue of Boost.Interprocess for each direction, with receive() that sleeps, or with
// try_receive() in a loop.
#include <unistd.h>

#include <boost/interprocess/ipc/message_queue.hpp>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/peers/transport.h"
#include "ipc/abi/atomics.h"

namespace bulkhead {
namespace {

using boost::interprocess::message_queue;

// The library takes names only. The name is removed at once; the server inherits the mapping.
std::unique_ptr<message_queue> Open(const char* direction) {
  const std::string name = absl::StrCat("bulkhead-bench-", getpid(), "-", direction);
  auto queue = std::make_unique<message_queue>(boost::interprocess::create_only, name.c_str(), 4,
                                               sizeof(Payload));
  message_queue::remove(name.c_str());
  return queue;
}

class Boost final : public Transport {
 public:
  explicit Boost(bool spinning) : spinning_(spinning) {}

  absl::Status Prepare() override {
    try {
      call_ = Open("call");
      reply_ = Open("reply");
    } catch (const boost::interprocess::interprocess_exception& error) {
      return absl::InternalError(error.what());
    }
    return absl::OkStatus();
  }

  void Serve() override {
    Payload payload;
    if (!Receive(*call_, payload, kPollsAtOnce)) return;
    Answer(payload);
    reply_->send(&payload, sizeof(payload), 0);
  }

  bool Call(Payload& payload) override {
    call_->send(&payload, sizeof(payload), 0);
    while (!Receive(*reply_, payload, kPollsAtOnce)) {
    }
    return true;
  }

 private:
  bool Receive(message_queue& queue, Payload& payload, int polls) const {
    message_queue::size_type bytes;
    unsigned int priority;
    if (!spinning_) {
      queue.receive(&payload, sizeof(payload), bytes, priority);
      return true;
    }
    for (int i = 0; i < polls; ++i) {
      if (queue.try_receive(&payload, sizeof(payload), bytes, priority)) return true;
      bh_cpu_relax();
    }
    return false;
  }

  const bool spinning_;
  std::unique_ptr<message_queue> call_, reply_;
};

}  // namespace

std::unique_ptr<Transport> MakeBoostSpinning() { return std::make_unique<Boost>(true); }
std::unique_ptr<Transport> MakeBoostBlocking() { return std::make_unique<Boost>(false); }

}  // namespace bulkhead
