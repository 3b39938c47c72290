// SPDX-License-Identifier: Apache-2.0
//
// LifeLine: reports the death of a host before the kernel has freed the host's memory.
//
// A page shared by a supervisor and one life of a host. Each thread that serves the driver holds a
// line of the page, a robust mutex. When a thread ends, the kernel marks its mutex and wakes the
// waiters, before it frees the process's memory; a pidfd becomes readable only after that, for a
// host of 512 MiB some 40 ms later (Linux: mm_release, then exit_mm, then exit_notify).
//
// Trust: the host can write the page. After a wake the supervisor asks the kernel how the process
// ended before it acts. If a host tampers with its lines, its death is detected by its pidfd, as
// without the page; it can delay the waiter (FUTEX_CMP_REQUEUE), but not without end and not beyond
// Cut().
#ifndef BULKHEAD_IPC_LIFE_LINE_UNSAFE_H_
#define BULKHEAD_IPC_LIFE_LINE_UNSAFE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/abi/channel.h"
#include "ipc/shared_memory.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class LifeLine {
 public:
  // Workers, and the reader of notifications.
  static constexpr uint32_t kLines = BH_WORKERS_MAX + 1;

  // For the supervisor: a new page.
  static absl::StatusOr<LifeLine> Create();
  // For the host: the page behind a descriptor that its supervisor sent. InvalidArgument.
  static absl::StatusOr<LifeLine> Attach(UniqueFd fd);

  // REQUIRES: no thread waits at it.
  LifeLine(LifeLine&& other) noexcept = default;
  LifeLine& operator=(LifeLine&&) = delete;

  const UniqueFd& fd() const { return memory_.fd(); }

  // For the host: the calling thread holds this line until it ends. Each line once.
  // REQUIRES: line < kLines.
  absl::Status Hold(uint32_t line);

  // For the supervisor: waits until every thread that holds a line has ended. False: no thread
  // holds line 0, the host tampers with its lines, Cut() was called, or this kernel can't wait for
  // a line and for Cut() at once (Linux before 5.16).
  // REQUIRES: one thread; the lines are held by now.
  bool WaitForEnds();
  // Ends the current wait and every later one. Any thread.
  void Cut();

 private:
  explicit LifeLine(SharedMemory memory) : memory_(std::move(memory)) {}
  bool WaitForEnd(uint32_t* word);
  void* Line(uint32_t line) const { return memory_.data() + line * size_t{BH_CACHE_LINE}; }
  uint32_t* Word(uint32_t line) const { return static_cast<uint32_t*>(Line(line)); }

  SharedMemory memory_;
  uint32_t cut_ = 0;  // not 0: cut; futex word
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_LIFE_LINE_UNSAFE_H_
