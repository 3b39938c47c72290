// SPDX-License-Identifier: Apache-2.0
//
// SharedMemory: one mapping of one sealed memfd.
//
// The side that creates the memory maps it writable and then seals it. What a seal forbids, no
// process can do any more, whatever its user id and its way to the descriptor:
//   SealAgainstResize      a peer can't shrink the memory while it is mapped (SIGBUS) or grow it
//   SealAgainstNewWriters  no new writable shared mapping, no write(2), no hole; the mapping that
//                          exists stays writable, and is inherited by fork and clone
//   SealForGood            no further seals: a peer can't take operations from later processes
//
// The other side maps through MapChecked, which checks every property of the descriptor before it
// uses it.
#ifndef BULKHEAD_IPC_SHARED_MEMORY_H_
#define BULKHEAD_IPC_SHARED_MEMORY_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// More than any channel needs. The kernel limits a memfd by the machine's memory only.
inline constexpr size_t kSharedMemoryBytesMax = 64 * 1024 * 1024;

class SharedMemory {
 public:
  enum class Access { kReadOnly, kReadWrite };

  // No memory: data() is null.
  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  // Zeroed memory, mapped writable, every page touched. `name` shows in /proc/PID/maps. `bytes` is
  // a multiple of 4096, at most kSharedMemoryBytesMax. ResourceExhausted when there is no memory.
  static absl::StatusOr<SharedMemory> Create(const std::string& name, size_t bytes);

  // Maps a descriptor that came from another process, after a check that it is a memfd of exactly
  // `bytes` with all of `required_seals` (F_SEAL_*). InvalidArgument says what is wrong.
  static absl::StatusOr<SharedMemory> MapChecked(UniqueFd fd, size_t bytes, Access access,
                                                 int required_seals);

  // Maps memory of a device. The kernel made it, so its properties are trusted.
  static absl::StatusOr<SharedMemory> MapDevice(UniqueFd fd, uint64_t offset, size_t bytes,
                                                Access access);

  absl::Status SealAgainstResize();
  absl::Status SealAgainstNewWriters();
  absl::Status SealForGood();

  // Writing through data() of a read-only mapping is SIGSEGV.
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  const UniqueFd& fd() const { return fd_; }
  // The pages can't be swapped out. False is not an error: RLIMIT_MEMLOCK is often small. Page
  // faults then cost time under memory pressure; `bulkhead doctor` reports it.
  bool locked() const { return locked_; }

 private:
  SharedMemory(UniqueFd fd, std::byte* data, size_t bytes);
  static absl::StatusOr<SharedMemory> Map(UniqueFd fd, uint64_t offset, size_t bytes,
                                          Access access);
  absl::Status AddSeals(int seals);
  void Unmap();

  UniqueFd fd_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  bool locked_ = false;
};

// Bytes of a memfd that a peer sent, where the size is not known otherwise. InvalidArgument when
// the memfd is not sealed against resizing: its size could change.
absl::StatusOr<size_t> SealedMemoryBytes(int fd);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_SHARED_MEMORY_H_
