// SPDX-License-Identifier: Apache-2.0
//
// Payloads in shared memory, and an eventfd for each direction: both sides sleep in read().
#include <sys/eventfd.h>

#include <cerrno>

#include "bench/peers/shared_object.h"
#include "bench/peers/transport.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

struct Payloads {
  alignas(64) Payload call;
  alignas(64) Payload reply;
};

class Eventfd final : public Transport {
 public:
  absl::Status Prepare() override {
    for (UniqueFd* fd : {&call_, &reply_}) {
      fd->reset(eventfd(0, EFD_CLOEXEC));
      if (!fd->valid()) return absl::ErrnoToStatus(errno, "eventfd");
    }
    return payloads_.Map();
  }

  void Serve() override {
    eventfd_t count;
    if (eventfd_read(call_.get(), &count) != 0) return;
    Payload payload = payloads_->call;
    Answer(payload);
    payloads_->reply = payload;
    (void)eventfd_write(reply_.get(), 1);
  }

  bool Call(Payload& payload) override {
    eventfd_t count;
    payloads_->call = payload;
    if (eventfd_write(call_.get(), 1) != 0 || eventfd_read(reply_.get(), &count) != 0) return false;
    payload = payloads_->reply;
    return true;
  }

 private:
  SharedObject<Payloads> payloads_;
  UniqueFd call_, reply_;
};

}  // namespace

std::unique_ptr<Transport> MakeEventfd() { return std::make_unique<Eventfd>(); }

}  // namespace bulkhead
