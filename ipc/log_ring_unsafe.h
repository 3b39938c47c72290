// SPDX-License-Identifier: Apache-2.0
//
// LogRing: the lines of a driver's log between the driver and its supervisor, in memory that the
// supervisor holds: what a host had not sent when it died can be read from there, however it died.
//
//   header | slot [kLinesMax]
//
// A line is in the ring when `written` counts it, which is stored after the line. A line that a
// kill interrupts is not counted, and lost; no other is. Lines have numbers, and stay where they
// are until their place is needed: the supervisor takes those that it has not heard of, whether the
// host had sent them or not.
//
// Unsafe: the host's driver may write over all of it. The host keeps its own counts, and takes from
// a slot no more than a line has. ReadLeft() copies what it looks at once, and takes nothing that
// can't be.
//
// Threads: the writer's functions under one lock. ReadLeft() when the host has ended; before, what
// it reads may be torn.
#ifndef BULKHEAD_IPC_LOG_RING_UNSAFE_H_
#define BULKHEAD_IPC_LOG_RING_UNSAFE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead {

class LogRing {
 public:
  static constexpr size_t kLinesMax = 256;
  static constexpr size_t kLineBytesMax = 1024;

  struct Line {
    uint64_t number = 0;   // counts the lines, from 1
    uint64_t time_ns = 0;  // CLOCK_REALTIME, when the driver said it
    uint64_t dropped = 0;  // lines before it that found the ring full, or could not be sent
    uint32_t level = 0;    // enum bulkhead_log_level
    std::string text;
  };
  static const size_t kBytes;  // of the memory; whole pages

  // REQUIRES: memory.size() >= kBytes, zeroed or never used.
  explicit LogRing(std::span<std::byte> memory);

  // ---- The writer. Nothing here allocates but Front().
  // False: the ring is full; counted.
  bool Put(uint32_t level, uint64_t time_ns, std::string_view text);
  // The oldest line that was not sent. False: there is none.
  bool Front(Line* line) const;
  // It was sent.
  void Pop();
  void CountDropped();
  uint64_t dropped() const { return dropped_; }

  // ---- The reader, of what a host left behind.
  struct Left {
    std::vector<Line> lines;  // in their order
    uint64_t dropped = 0;     // in all; those after the last line, and before the first, too
  };
  // The lines up to the number `heard` have arrived.
  static Left ReadLeft(std::span<const std::byte> memory, uint64_t heard);

 private:
  struct Header;
  struct Slot;
  static Slot* SlotOf(std::byte* memory, uint64_t position);

  std::byte* const memory_;
  uint64_t written_ = 0;
  uint64_t sent_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_LOG_RING_UNSAFE_H_
