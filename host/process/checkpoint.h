// SPDX-License-Identifier: Apache-2.0
//
// Checkpoint: one record that survives the death of its writer, whole or not at all. It is in
// memory that the supervisor keeps and passes to every generation.
//
//   two copies, each {sequence, length, checksum, bytes}; a save overwrites the older one, bytes
//   first, the header with its checksum last; a load takes the valid copy with the higher sequence.
//
// Drivers write the memory, so only the driver itself may trust its content: a load checks lengths
// and checksum, and reports no record when they do not match.
//
// Threads: Save and Load may be called from any thread; they exclude each other.
#ifndef BULKHEAD_HOST_PROCESS_CHECKPOINT_H_
#define BULKHEAD_HOST_PROCESS_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

namespace bulkhead {

class Checkpoint {
 public:
  // `memory` must outlive this. Memory too small for a header gives a checkpoint without capacity.
  explicit Checkpoint(std::span<std::byte> memory);

  // Largest record, in bytes.
  size_t capacity() const { return capacity_; }
  // False when the record does not fit.
  bool Save(std::span<const std::byte> record);
  // Bytes copied to `record`; 0 when there is none, -1 when `record` is too small.
  long Load(std::span<std::byte> record) const;

 private:
  struct Header {
    uint64_t sequence;  // 0: never written
    uint64_t length;
    uint64_t checksum;  // of sequence, length and bytes
  };
  struct Copy {
    Header header;  // private copy
    std::byte* at;  // in the memory
    bool valid;
  };
  Copy Read(int which) const;
  static uint64_t Checksum(uint64_t sequence, std::span<const std::byte> bytes);

  std::span<std::byte> memory_;
  size_t capacity_ = 0;
  mutable std::mutex mutex_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_PROCESS_CHECKPOINT_H_
