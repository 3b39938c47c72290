// SPDX-License-Identifier: Apache-2.0
//
// HostView: the host's mapping of a channel's two regions, and every access that the host makes to
// them. Unsafe: the caller must keep indices below bh_slot_count() and BH_WORKERS_MAX; each value
// returned is a private copy, loaded once, and not yet validated.
//
// SUBTLE: relaxed copies are safe here. The shim wrote the fields before the ticket that the worker
// claimed, and does not fill a slot again before the slot is answered or its generation has ended.
// After the end of the generation the host is about to be killed, and a reply made from a torn copy
// carries a ticket that no caller waits for.
//
// Order matters: each function states the order it gives. The layout, and the writer of each field,
// is in ipc/abi/channel.h.
#ifndef BULKHEAD_IPC_HOST_VIEW_UNSAFE_H_
#define BULKHEAD_IPC_HOST_VIEW_UNSAFE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "ipc/abi/atomics.h"
#include "ipc/abi/channel.h"
#include "ipc/abi/notification.h"
#include "ipc/shared_memory.h"

namespace bulkhead {

// Private copies of fields that the shim wrote.
struct CallLine {
  uint16_t callback;
  uint16_t args_bytes;
  uint16_t flags;
};
struct CallSecondLine {
  uint64_t call_id;
  uint64_t deadline_ns;
  uint64_t payload_offset;
  uint64_t payload_bytes;
  uint64_t reply_offset;
  uint64_t reply_capacity;
  uint32_t attempt;
};

class HostView {
 public:
  HostView() = default;
  // REQUIRES: the regions have the sizes that the geometry gives.
  HostView(SharedMemory call, SharedMemory reply, const bh_geometry& geometry)
      : call_(std::move(call)),
        reply_(std::move(reply)),
        call_slots_(call_.data() + bh_call_slot_offset(0)),
        reply_slots_(reply_.data() + bh_reply_slot_offset(0)),
        call_pool_(call_.data() + bh_call_pool_offset(&geometry)),
        reply_pool_(reply_.data() + bh_reply_pool_offset(&geometry)) {}

  // Acquire: what the shim wrote before the ticket is visible to CopyCall afterwards.
  uint64_t Ticket(uint32_t slot) const { return bh_load_acquire(&call_slot(slot)->ticket); }

  // Atomic loads, so that the compiler does not load a word twice.
  CallLine CopyCall(uint32_t slot) const {
    const bh_call_slot* shared = call_slot(slot);
    CallLine line;
    line.callback = bh_load_relaxed(&shared->callback);
    line.args_bytes = bh_load_relaxed(&shared->args_bytes);
    line.flags = bh_load_relaxed(&shared->flags);
    return line;
  }
  // BH_INLINE_BYTES of them, straight to their final place: a second copy with wider loads would
  // stall on the word-sized stores of the first (failed store forwarding).
  void CopyArguments(uint32_t slot, uint8_t* arguments) const {
    CopyWords<BH_INLINE_BYTES>(call_slot(slot)->args, arguments);
  }
  // BH_MORE_ARGS_BYTES, from line 3.
  void CopyMoreArguments(uint32_t slot, uint8_t* arguments) const {
    CopyWords<BH_MORE_ARGS_BYTES>(call_slot(slot)->more_args, arguments);
  }

  // Loads line 1 and the first line of the payload at the same time: two reads in sequence would
  // wait for two cache misses. `ahead` is a hint: a wrong value prefetches an unused line and has
  // no other effect.
  void PrefetchPayload(uint32_t slot, size_t pool_bytes) const {
    const bh_call_slot* shared = call_slot(slot);
    __builtin_prefetch(&shared->call_id);
    const size_t offset = size_t{bh_load_relaxed(&shared->ahead)} * BH_POOL_CHUNK_BYTES;
    if (offset < pool_bytes) __builtin_prefetch(call_pool_ + offset);
  }

  CallSecondLine CopySecondLine(uint32_t slot) const {
    const bh_call_slot* shared = call_slot(slot);
    CallSecondLine line;
    line.call_id = bh_load_relaxed(&shared->call_id);
    line.deadline_ns = bh_load_relaxed(&shared->deadline_ns);
    line.payload_offset = bh_load_relaxed(&shared->payload_offset);
    line.payload_bytes = bh_load_relaxed(&shared->payload_bytes);
    line.reply_offset = bh_load_relaxed(&shared->reply_offset);
    line.reply_capacity = bh_load_relaxed(&shared->reply_capacity);
    line.attempt = bh_load_relaxed(&shared->attempt);
    return line;
  }

  uint32_t Opener(uint32_t slot) const { return bh_load_relaxed(&call_slot(slot)->opener); }
  uint64_t DeadlineNs(uint32_t slot) const {
    return bh_load_relaxed(&call_slot(slot)->deadline_ns);
  }

  const std::byte* call_pool() const { return call_pool_; }
  std::byte* reply_pool() const { return reply_pool_; }

  bool CallerSleeps(uint32_t slot) const {
    return bh_load_relaxed(&call_slot(slot)->caller_sleeps) != 0;
  }

  // Release on the ticket: a reader that sees the ticket sees the whole line. The words before it
  // are atomic too: two workers in one slot are ordered by the shim's ticket, in another mapping of
  // the same memory, which ThreadSanitizer can't follow.
  void StoreReply(uint32_t slot, uint64_t ticket, uint32_t status, const uint8_t* reply,
                  size_t reply_bytes) {
    bh_reply_slot* shared = reply_slot(slot);
    bh_store_relaxed(&shared->status, status);
    bh_store_relaxed(&shared->reply_bytes, static_cast<uint16_t>(reply_bytes));
    auto* shared_words = reinterpret_cast<uint64_t*>(shared->reply);
    const size_t whole = reply_bytes / 8;
    const size_t rest = reply_bytes % 8;
    for (size_t i = 0; i < whole; ++i) {
      uint64_t word;
      std::memcpy(&word, reply + i * 8, 8);
      bh_store_relaxed(&shared_words[i], word);
    }
    if (rest != 0) {
      uint64_t word = 0;
      std::memcpy(&word, reply + whole * 8, rest);
      bh_store_relaxed(&shared_words[whole], word);
    }
    bh_store_release(&shared->ticket, ticket);
  }
  void StoreReplyPayloadBytes(uint32_t slot, uint64_t bytes) {
    bh_store_relaxed(&reply_slot(slot)->payload_bytes, bytes);
  }
  uint32_t* Bell(uint32_t slot) { return &reply_slot(slot)->bell; }

  bh_notification_reader* NotificationWords() {
    return reinterpret_cast<bh_notification_reader*>(reply_.data() + BH_NOTIFICATION_READER_OFFSET);
  }

  uint32_t* SleepWord(uint32_t worker) {
    return &reinterpret_cast<bh_host_line*>(reply_.data())->sleeping[worker];
  }

  // SUBTLE: nothing orders this before what the driver does then. It need not: the shim asks for
  // the truth when the process is dead, and a store that came first in the program has then
  // happened, whatever the driver died of.
  void StoreBegun(uint32_t slot, uint64_t ticket) {
    bh_store_relaxed(&reply_slot(slot)->begun, ticket);
  }

 private:
  template <size_t bytes>
  static void CopyWords(const uint8_t* shared, uint8_t* copy) {
    const auto* words = reinterpret_cast<const uint64_t*>(shared);
    for (size_t i = 0; i < bytes / 8; ++i) {
      const uint64_t word = bh_load_relaxed(&words[i]);
      std::memcpy(copy + i * 8, &word, 8);
    }
  }
  const bh_call_slot* call_slot(uint32_t slot) const {
    return reinterpret_cast<const bh_call_slot*>(call_slots_) + slot;
  }
  bh_reply_slot* reply_slot(uint32_t slot) const {
    return reinterpret_cast<bh_reply_slot*>(reply_slots_) + slot;
  }

  SharedMemory call_;
  SharedMemory reply_;
  const std::byte* call_slots_ = nullptr;
  std::byte* reply_slots_ = nullptr;
  const std::byte* call_pool_ = nullptr;
  std::byte* reply_pool_ = nullptr;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_HOST_VIEW_UNSAFE_H_
