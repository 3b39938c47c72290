// SPDX-License-Identifier: Apache-2.0
//
// Checkpoint: one record that survives the death of its writer, whole or not at all. It lives in
// memory that the supervisor keeps and hands to every generation.
//
//   two copies, each {sequence, length, checksum, bytes}; a save goes over the older one, bytes
//   first, the header with its checksum last; a load takes the valid copy with the higher sequence.
//
// The memory is written by drivers, so its content is nobody's word but the driver's own: a load
// checks lengths and checksum, and finds nothing in what fits neither.
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
  // `memory` outlives this. Too little memory for a header makes a checkpoint without capacity.
  explicit Checkpoint(std::span<std::byte> memory);

  // Largest record, in bytes.
  size_t capacity() const { return capacity_; }
  // False when it does not fit.
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
