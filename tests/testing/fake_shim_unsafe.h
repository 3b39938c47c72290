// SPDX-License-Identifier: Apache-2.0
//
// FakeShim: for tests of the host's side. Acts as the shim of a channel, one slot at a time,
// exactly by ipc/abi/channel.h, or against it when a test checks the host's reaction.
// SUBTLE: its races are those of the shim: ipc/abi/atomics.h, shim/core/issue.c.
#ifndef BULKHEAD_TESTS_TESTING_FAKE_SHIM_UNSAFE_H_
#define BULKHEAD_TESTS_TESTING_FAKE_SHIM_UNSAFE_H_

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "ipc/abi/atomics.h"
#include "ipc/abi/channel.h"
#include "ipc/channel_memory.h"
#include "ipc/futex.h"
#include "ipc/monotonic.h"

namespace bulkhead {

class FakeShim {
 public:
  FakeShim(ChannelMemory memory, uint32_t generation)
      : memory_(std::move(memory)),
        generation_(generation),
        counts_(bh_slot_count(&memory_.geometry())) {
    const bh_geometry& geometry = memory_.geometry();
    *header() = {BH_CHANNEL_MAGIC,
                 BH_ABI_VERSION,
                 geometry.lanes,
                 geometry.slots_per_lane,
                 geometry.call_chunks,
                 geometry.reply_chunks,
                 0,
                 bh_call_region_bytes(&geometry),
                 bh_reply_region_bytes(&geometry),
                 0,
                 0};
  }

  const ChannelMemory& memory() const { return memory_; }
  bh_channel_header* header() { return static_cast<bh_channel_header*>(memory_.call_region()); }
  bh_call_slot* call(uint32_t slot) {
    return reinterpret_cast<bh_call_slot*>(static_cast<char*>(memory_.call_region()) +
                                           bh_call_slot_offset(slot));
  }
  bh_reply_slot* reply(uint32_t slot) {
    return reinterpret_cast<bh_reply_slot*>(static_cast<char*>(memory_.reply_region()) +
                                            bh_reply_slot_offset(slot));
  }
  uint32_t* sleep_word(uint32_t worker) {
    return &static_cast<bh_host_line*>(memory_.reply_region())->sleeping[worker];
  }
  std::byte* call_pool() {
    return static_cast<std::byte*>(memory_.call_region()) +
           bh_call_pool_offset(&memory_.geometry());
  }
  std::byte* reply_pool() {
    return static_cast<std::byte*>(memory_.reply_region()) +
           bh_reply_pool_offset(&memory_.geometry());
  }

  // The ticket that the next Post in this slot stores: descriptors are sent before it is stored.
  uint64_t NextTicket(uint32_t slot) const {
    return bh_ticket_make(generation_, counts_[slot] + 1);
  }

  // Fills the first line and stores the ticket; the test fills line 1 before. Wakes a worker that
  // announced its sleep.
  uint64_t Post(uint32_t slot, absl::Span<const uint8_t> args, uint16_t flags = 0,
                uint16_t callback = BH_CALLBACK_FILE_OPEN) {
    return PostTicket(slot, NextTicket(slot), args, flags, callback);
  }

  uint64_t PostTicket(uint32_t slot, uint64_t ticket, absl::Span<const uint8_t> args,
                      uint16_t flags, uint16_t callback) {
    ++counts_[slot];
    bh_call_slot* shared = call(slot);
    bh_store_relaxed(&shared->callback, callback);
    bh_store_relaxed(&shared->args_bytes, static_cast<uint16_t>(args.size()));
    bh_store_relaxed(&shared->flags, flags);
    const size_t first = std::min(args.size(), sizeof(shared->args));
    std::memcpy(shared->args, args.data(), first);
    std::memcpy(shared->more_args, args.data() + first,
                std::min(args.size() - first, sizeof(shared->more_args)));
    bh_store_release(&shared->ticket, ticket);
    bh_fence();
    for (uint32_t w = 0; w < BH_WORKERS_MAX; ++w) {
      if (bh_load_relaxed(sleep_word(w)) == 0 || bh_exchange(sleep_word(w), 0u) == 0) continue;
      FutexWake(sleep_word(w), FutexScope::kShared, 1);
      break;
    }
    return ticket;
  }

  bool Answered(uint32_t slot, uint64_t ticket) {
    return bh_load_acquire(&reply(slot)->ticket) == ticket;
  }

  // False when there was no answer by until_ns.
  bool SpinForAnswer(uint32_t slot, uint64_t ticket, uint64_t until_ns) {
    while (!Answered(slot, ticket)) {
      if (MonotonicNowNs() >= until_ns) return false;
      bh_cpu_relax();
    }
    return true;
  }
  bool SleepForAnswer(uint32_t slot, uint64_t ticket, uint64_t until_ns) {
    uint32_t* sleeps = &call(slot)->caller_sleeps;
    uint32_t* bell = &reply(slot)->bell;
    for (;;) {
      const uint32_t rung = bh_load_acquire(bell);
      bh_store_relaxed(sleeps, 1u);
      bh_fence();
      const bool answered = Answered(slot, ticket);
      if (answered ||
          FutexWait(bell, rung, FutexScope::kShared, until_ns) == FutexResult::kTimedOut) {
        bh_store_relaxed(sleeps, 0u);
        return answered || Answered(slot, ticket);
      }
    }
  }

 private:
  ChannelMemory memory_;
  const uint32_t generation_;
  std::vector<uint32_t> counts_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_FAKE_SHIM_UNSAFE_H_
