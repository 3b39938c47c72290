// SPDX-License-Identifier: Apache-2.0
//
// The floor: one cache line each way, the sequence word beside the payload, both sides spin. A
// payload beyond the line is in shared memory too.
#include <cstring>

#include "bench/peers/shared_object.h"
#include "bench/peers/sized_payload.h"
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
struct Area {
  uint64_t words[kPayloadBytesMax / sizeof(uint64_t)];
};

class Raw final : public Transport {
 public:
  explicit Raw(size_t payload_bytes) : sized_(payload_bytes) {}

  absl::Status Prepare() override {
    if (!sized_.empty()) {
      if (absl::Status status = area_.Map(); !status.ok()) return status;
    }
    return lines_.Map();
  }

  void Serve() override {
    for (int i = 0; i < kPollsAtOnce; ++i) {
      const uint64_t sequence = bh_load_acquire(&lines_->call.sequence);
      if (sequence == answered_) {
        bh_cpu_relax();
        continue;
      }
      Payload payload = lines_->call.payload;
      if (sized_.empty() || sized_.IsWhole(area_->words)) Answer(payload);
      lines_->reply.payload = payload;
      bh_store_release(&lines_->reply.sequence, sequence);
      answered_ = sequence;
    }
  }

  bool Call(Payload& payload) override {
    const uint64_t sequence = ++asked_;
    if (!sized_.empty()) std::memcpy(area_->words, sized_.data(), sized_.bytes());
    lines_->call.payload = payload;
    bh_store_release(&lines_->call.sequence, sequence);
    while (bh_load_acquire(&lines_->reply.sequence) != sequence) bh_cpu_relax();
    payload = lines_->reply.payload;
    return true;
  }

 private:
  const SizedPayload sized_;
  SharedObject<Lines> lines_;
  SharedObject<Area> area_;
  uint64_t asked_ = 0, answered_ = 0;
};

}  // namespace

std::unique_ptr<Transport> MakeRaw(size_t payload_bytes) {
  return std::make_unique<Raw>(payload_bytes);
}

}  // namespace bulkhead
