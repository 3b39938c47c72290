// SPDX-License-Identifier: Apache-2.0
//
// The queues that a stream of notifications is measured against: for one writer and one reader that
// trust each other, never sleep, and lose nothing because the writer waits. 64 bytes a message.
//
//   RawBatched   two positions, each in its writer's cache and read seldom; published 64 at a time
//   RawFlagged   a number in each slot says that it is there; each is published at once
//
// A message is made in its slot, and copied out of it. Memory is zeroed and shared; a Writer and a
// Reader are private. Both start at message 1.
#ifndef BULKHEAD_BENCH_RAW_QUEUES_H_
#define BULKHEAD_BENCH_RAW_QUEUES_H_

#include <cstddef>
#include <cstdint>

#include "bench/bounded_wait.h"
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

class RawBatched {
 public:
  struct Memory {
    alignas(128) uint64_t written;
    alignas(128) uint64_t read;
    alignas(128) StreamMessage slots[kStreamSlots];
  };

  class Writer {
   public:
    explicit Writer(Memory& memory) : memory_(memory) {}
    void Push(uint64_t number) {
      if (number - read_ > kStreamSlots) AwaitRoom(number);
      StreamMessage& message = memory_.slots[number % kStreamSlots];
      message.number = number;
      message.Fill(number);
      written_ = number;
      if (written_ % kStreamBatch == 0) Flush();
    }
    void Flush() { bh_store_release(&memory_.written, written_); }

   private:
    [[gnu::noinline]] void AwaitRoom(uint64_t number) {
      Flush();
      SpinUntil("room in the raw queue", [&] {
        read_ = bh_load_acquire(&memory_.read);
        return number - read_ <= kStreamSlots;
      });
    }
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
      message = memory_.slots[++read_ % kStreamSlots];
      return true;
    }

   private:
    Memory& memory_;
    uint64_t written_ = 0, read_ = 0;
  };
};

class RawFlagged {
 public:
  struct Memory {
    alignas(128) uint64_t read;
    alignas(128) StreamMessage slots[kStreamSlots];  // the number is stored last
  };

  class Writer {
   public:
    explicit Writer(Memory& memory) : memory_(memory) {}
    void Push(uint64_t number) {
      if (number - read_ > kStreamSlots) AwaitRoom(number);
      StreamMessage& message = memory_.slots[number % kStreamSlots];
      message.Fill(number);
      bh_store_release(&message.number, number);
    }
    void Flush() {}

   private:
    [[gnu::noinline]] void AwaitRoom(uint64_t number) {
      SpinUntil("room in the raw queue", [&] {
        read_ = bh_load_acquire(&memory_.read);
        return number - read_ <= kStreamSlots;
      });
    }
    Memory& memory_;
    uint64_t read_ = 0;
  };

  class Reader {
   public:
    explicit Reader(Memory& memory) : memory_(memory) {}
    bool Pop(StreamMessage& message) {
      const StreamMessage& next = memory_.slots[(read_ + 1) % kStreamSlots];
      if (bh_load_acquire(&next.number) != read_ + 1) return false;
      message = next;
      if (++read_ % kStreamBatch == 0) bh_store_release(&memory_.read, read_);
      return true;
    }

   private:
    Memory& memory_;
    uint64_t read_ = 0;
  };
};

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_RAW_QUEUES_H_
