// SPDX-License-Identifier: Apache-2.0
//
// The floor: one cache line each way, the sequence word beside the payload, both sides spin.
#include "bench/peers/shared_object.h"
#include "bench/peers/transport.h"
#include "ipc/abi/atomics.h"

namespace bulkhead {
namespace {

struct alignas(128) Line {  // apart even for the prefetcher that fetches pairs of lines
  uint64_t sequence;        // written last
  Payload payload;
};
struct Lines {
  Line call, reply;
};

class Raw final : public Transport {
 public:
  absl::Status Prepare() override { return lines_.Map(); }

  void Serve() override {
    for (int i = 0; i < kPollsAtOnce; ++i) {
      const uint64_t sequence = bh_load_acquire(&lines_->call.sequence);
      if (sequence == answered_) {
        bh_cpu_relax();
        continue;
      }
      Payload payload = lines_->call.payload;
      Answer(payload);
      lines_->reply.payload = payload;
      bh_store_release(&lines_->reply.sequence, sequence);
      answered_ = sequence;
    }
  }

  bool Call(Payload& payload) override {
    const uint64_t sequence = ++asked_;
    lines_->call.payload = payload;
    bh_store_release(&lines_->call.sequence, sequence);
    while (bh_load_acquire(&lines_->reply.sequence) != sequence) bh_cpu_relax();
    payload = lines_->reply.payload;
    return true;
  }

 private:
  SharedObject<Lines> lines_;
  uint64_t asked_ = 0, answered_ = 0;
};

}  // namespace

std::unique_ptr<Transport> MakeRaw() { return std::make_unique<Raw>(); }

}  // namespace bulkhead
