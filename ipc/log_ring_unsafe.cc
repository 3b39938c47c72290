// SPDX-License-Identifier: Apache-2.0
#include "ipc/log_ring_unsafe.h"

#include <algorithm>
#include <cstring>

#include "ipc/abi/atomics.h"
#include "ipc/check.h"

namespace bulkhead {

// Written by the host; read by the host's supervisor once the host has ended.
struct LogRing::Header {
  uint64_t written;
  uint64_t dropped;
  uint64_t reserved[6];
};

struct LogRing::Slot {
  uint64_t number;
  uint64_t time_ns;
  uint64_t dropped;
  uint32_t level;
  uint32_t bytes;
  char text[kLineBytesMax];
};

constexpr size_t kPageBytes = 4096;
const size_t LogRing::kBytes =
    (sizeof(Header) + kLinesMax * sizeof(Slot) + kPageBytes - 1) / kPageBytes * kPageBytes;

namespace {

constexpr uint32_t kLevelMax = 3;  // BULKHEAD_LOG_ERROR

}  // namespace

LogRing::Slot* LogRing::SlotOf(std::byte* memory, uint64_t position) {
  static_assert(sizeof(Header) == 64 && sizeof(Slot) == 32 + kLineBytesMax);
  return reinterpret_cast<Slot*>(memory + sizeof(Header)) + position % kLinesMax;
}

LogRing::LogRing(std::span<std::byte> memory) : memory_(memory.data()) {
  BULKHEAD_CHECK(memory.size() >= kBytes);
  std::memset(memory_, 0, sizeof(Header));
}

// SUBTLE: the supervisor reads without a lock, after this process has ended: the kernel's order of
// a death and its announcement is order enough. The release keeps the compiler, and a machine that
// is still at work when the process is killed, from counting a line before it is whole.
bool LogRing::Put(uint32_t level, uint64_t time_ns, std::string_view text) {
  auto* header = reinterpret_cast<Header*>(memory_);
  if (written_ - sent_ == kLinesMax) {
    CountDropped();
    return false;
  }
  Slot* slot = SlotOf(memory_, written_);
  slot->number = written_ + 1;
  slot->time_ns = time_ns;
  slot->dropped = dropped_;
  slot->level = std::min(level, kLevelMax);
  slot->bytes = static_cast<uint32_t>(text.copy(slot->text, kLineBytesMax));
  ++written_;
  bh_store_release(&header->written, written_);
  return true;
}

bool LogRing::Front(Line* line) const {
  if (written_ == sent_) return false;
  const Slot* slot = SlotOf(memory_, sent_);
  line->number = sent_ + 1;  // as it was put, whatever the driver has written there since
  line->time_ns = slot->time_ns;
  line->dropped = std::min(slot->dropped, dropped_);
  line->level = std::min(slot->level, kLevelMax);
  line->text.assign(slot->text, std::min<size_t>(slot->bytes, kLineBytesMax));
  return true;
}

void LogRing::Pop() {
  if (written_ != sent_) ++sent_;
}

void LogRing::CountDropped() {
  ++dropped_;
  bh_store_relaxed(&reinterpret_cast<Header*>(memory_)->dropped, dropped_);
}

LogRing::Left LogRing::ReadLeft(std::span<const std::byte> memory, uint64_t heard) {
  Left left;
  if (memory.size() < kBytes) return left;
  auto* bytes = const_cast<std::byte*>(memory.data());
  auto* shared = reinterpret_cast<Header*>(bytes);
  const uint64_t written = bh_load_acquire(&shared->written);
  left.dropped = bh_load_relaxed(&shared->dropped);
  // A driver that has written over the count has lost its lines.
  if (heard > written) return left;
  const uint64_t first = std::max(heard, written - std::min<uint64_t>(written, kLinesMax));
  left.dropped += first - heard;
  for (uint64_t position = first; position < written; ++position) {
    Slot copy;
    std::memcpy(&copy, SlotOf(bytes, position), sizeof(copy));
    if (copy.number != position + 1) continue;  // written over
    left.lines.push_back(
        {.number = copy.number,
         .time_ns = copy.time_ns,
         .dropped = std::min(copy.dropped, left.dropped),
         .level = std::min(copy.level, kLevelMax),
         .text = std::string(copy.text, std::min<size_t>(copy.bytes, kLineBytesMax))});
  }
  return left;
}

}  // namespace bulkhead
