// SPDX-License-Identifier: Apache-2.0
//
// The queues that a stream of notifications is measured against: for one writer and one reader that
// trust each other, never sleep, and lose nothing because the writer waits. 64 bytes a message.
//
//   RawBatched   two positions, each in its writer's cache and read seldom; published 64 at a time
//   RawFlagged   a number in each slot says that it is there; each is published at once
//
// Parameters add what a ring of notifications has, one thing after the other. kLines: that a
// message fills; kStride: from one slot to the next, in lines; kLocked: a lock around each Push,
// for more writers than one; kWakes: behind it the fence and the look at a word with which a reader
// would announce that it sleeps.
//
// A message is made in its slot, and copied out of it. Memory is zeroed and shared; a Writer and a
// Reader are private. Both start at message 1.
#ifndef BULKHEAD_BENCH_RAW_QUEUES_H_
#define BULKHEAD_BENCH_RAW_QUEUES_H_

#include <cstddef>
#include <cstdint>

#include "ipc/abi/atomics.h"

namespace bulkhead {

inline constexpr uint32_t kStreamSlots = 2048;  // as many as a driver's ring has
inline constexpr uint32_t kStreamBatch = 64;

struct alignas(64) StreamMessage {
  uint64_t number;  // counts from 1
  uint64_t words[7];

  void Fill(uint64_t value) {
    for (uint64_t& word : words) word = value;
  }
};

template <size_t kStride>
struct StreamSlot {
  StreamMessage lines[kStride];
};

template <size_t kLines = 1, size_t kStride = kLines>
class RawBatched {
 public:
  struct Memory {
    alignas(128) uint64_t written;
    alignas(128) uint64_t read;
    alignas(128) StreamSlot<kStride> slots[kStreamSlots];
  };

  class Writer {
   public:
    explicit Writer(Memory& memory) : memory_(memory) {}
    void Push(uint64_t number) {
      while (number - read_ > kStreamSlots) {
        Flush();
        read_ = bh_load_acquire(&memory_.read);
        if (number - read_ > kStreamSlots) bh_cpu_relax();
      }
      StreamMessage* lines = memory_.slots[number % kStreamSlots].lines;
      lines[0].number = number;
      for (size_t i = 0; i < kLines; ++i) lines[i].Fill(number);
      written_ = number;
      if (written_ % kStreamBatch == 0) Flush();
    }
    void Flush() { bh_store_release(&memory_.written, written_); }

   private:
    Memory& memory_;
    uint64_t written_ = 0, read_ = 0;
  };

  class Reader {
   public:
    explicit Reader(Memory& memory) : memory_(memory) {}
    bool Pop(StreamMessage& message) {
      if (read_ == written_) {
        bh_store_release(&memory_.read, read_);
        written_ = bh_load_acquire(&memory_.written);
        if (read_ == written_) return false;
      }
      const StreamMessage* lines = memory_.slots[++read_ % kStreamSlots].lines;
      message = lines[0];
      for (size_t j = 1; j < kLines; ++j) copies_[j] = lines[j];
      return true;
    }

   private:
    Memory& memory_;
    uint64_t written_ = 0, read_ = 0;
    StreamMessage copies_[kLines];
  };
};

template <size_t kLines = 1, size_t kStride = kLines, bool kLocked = false, bool kWakes = false>
class RawFlagged {
 public:
  struct Memory {
    alignas(128) uint64_t read;
    alignas(128) uint32_t sleeping;
    alignas(128) StreamSlot<kStride> slots[kStreamSlots];  // the first number is stored last
  };

  class Writer {
   public:
    explicit Writer(Memory& memory) : memory_(memory) {}
    void Push(uint64_t number) {
      if constexpr (kLocked) {
        while (bh_exchange(&lock_, 1u) != 0) bh_cpu_relax();
      }
      while (number - read_ > kStreamSlots) {
        read_ = bh_load_acquire(&memory_.read);
        if (number - read_ > kStreamSlots) bh_cpu_relax();
      }
      StreamMessage* lines = memory_.slots[number % kStreamSlots].lines;
      for (size_t i = 0; i < kLines; ++i) lines[i].Fill(number);
      bh_store_release(&lines[0].number, number);
      if constexpr (kLocked) bh_store_release(&lock_, 0u);
      if constexpr (kWakes) {
        bh_fence();
        woken_ += bh_load_relaxed(&memory_.sleeping);
      }
    }
    void Flush() {}

   private:
    Memory& memory_;
    uint64_t read_ = 0;
    uint64_t woken_ = 0;
    alignas(64) uint32_t lock_ = 0;
  };

  class Reader {
   public:
    explicit Reader(Memory& memory) : memory_(memory) {}
    bool Pop(StreamMessage& message) {
      const StreamMessage* lines = memory_.slots[(read_ + 1) % kStreamSlots].lines;
      if (bh_load_acquire(&lines[0].number) != read_ + 1) return false;
      message = lines[0];
      for (size_t i = 1; i < kLines; ++i) copies_[i] = lines[i];
      if (++read_ % kStreamBatch == 0) bh_store_release(&memory_.read, read_);
      return true;
    }

   private:
    Memory& memory_;
    uint64_t read_ = 0;
    StreamMessage copies_[kLines];
  };
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_RAW_QUEUES_H_
