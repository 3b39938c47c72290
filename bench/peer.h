// SPDX-License-Identifier: Apache-2.0
//
// The two processes of bench-ipc: the bench itself, which calls, and a peer, which answers in
// whatever way the unit under measurement wants. One page between them holds the raw lines, the
// futex words, and the mode.
#ifndef BULKHEAD_BENCH_PEER_H_
#define BULKHEAD_BENCH_PEER_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "bench/bounded_wait.h"
#include "bench/forked_process.h"
#include "ipc/abi/atomics.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {

// What is measured. Each of ours stands beside the raw thing that does the same work.
enum class Mode : uint64_t {
  kIdle,
  kRaw,             // one line each way with 48 bytes, both spin
  kCall,            // ours, both spin
  kFutexOne,        // the peer sleeps in a futex, the caller spins
  kCallHostAsleep,  // ours, the host sleeps, the caller spins
  kFutexBoth,       // both sleep
  kCallBothAsleep,  // ours, both sleep
  kCallCold,        // ours, now and then, to a host with a worker bound to each CPU
};

struct alignas(64) RawLine {
  uint64_t sequence;
  uint8_t payload[48];
};

struct Page {
  RawLine call;
  alignas(128) RawLine reply;
  alignas(128) uint32_t futex_call;
  alignas(128) uint32_t futex_reply;
  // Low byte: a Mode. Above it a count of the changes, so that each is seen.
  alignas(128) uint64_t mode;
  alignas(128) uint64_t at_mode;  // the peer's answer: it is there
  uint64_t cpu;                   // where the peer should run
  uint64_t work_ns;               // how long it works before it answers
};

class Peer {
 public:
  static constexpr int kChannels = 4;

  // Forks. The channels: 0 spins on both sides, 1 on the caller's, 2 on neither, 3 as it likes.
  static absl::StatusOr<std::unique_ptr<Peer>> Start();
  ~Peer();

  // Switches the peer to a mode on a CPU and waits until it is there. When it sleeps, it works for
  // `work_ns` before it answers. REQUIRES: every request of the mode before has been answered.
  void Enter(Mode mode, int cpu, uint64_t work_ns);
  Page& page() { return *page_; }
  // One round trip of the raw line.
  void Raw(uint8_t (&payload)[48]) {
    const uint64_t sequence = page_->call.sequence + 1;
    std::memcpy(page_->call.payload, payload, sizeof(payload));
    bh_store_release(&page_->call.sequence, sequence);
    SpinUntil("the raw line's answer",
              [&] { return bh_load_acquire(&page_->reply.sequence) == sequence; });
    std::memcpy(payload, page_->reply.payload, sizeof(payload));
  }
  // One call through the channel of the mode; not 0: it ended as it should.
  bool Call(Mode mode, const uint8_t* arguments);

 private:
  Peer() = default;
  void Rouse(Mode mode);
  Page* page_ = nullptr;
  std::optional<ForkedProcess> process_;
  std::unique_ptr<EmbeddedShim> shims_[kChannels];
};

void PinTo(int cpu);
void PinToNone();
// Sleeps until the word is no longer `old`, within bounded_wait.h's bound.
void FutexWaitFor(uint32_t* word, uint32_t old);
// Stores `value` and wakes the threads that sleep on it.
void FutexPost(uint32_t* word, uint32_t value);

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PEER_H_
