// SPDX-License-Identifier: Apache-2.0
//
// LifeLine: tells that a host has died before it has given its memory back.
//
// A page between a supervisor and one life of a host. Each thread that serves the driver holds a
// line of it, a robust mutex. The kernel marks the mutex of a thread that ends and wakes who waits
// for that, before it takes the process's memory down; a pidfd tells behind that, for a host of
// 512 MiB some 40 ms later (Linux: mm_release before exit_mm, exit_notify behind it).
//
// Trust: the page is the host's word. Whoever acts on it asks the kernel first how the process
// ended. A host that plays with its lines is found dead by its pidfd, as if it had none; it can
// keep who waits at them (FUTEX_CMP_REQUEUE) neither for ever nor beyond Cut().
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

  // The supervisor's: a new page.
  static absl::StatusOr<LifeLine> Create();
  // The host's, of a descriptor that its supervisor sent. InvalidArgument.
  static absl::StatusOr<LifeLine> Attach(UniqueFd fd);

  // REQUIRES: nobody waits at it.
  LifeLine(LifeLine&& other) noexcept = default;
  LifeLine& operator=(LifeLine&&) = delete;

  const UniqueFd& fd() const { return memory_.fd(); }

  // The host's: the calling thread holds this line until it ends. Each line once.
  // REQUIRES: line < kLines.
  absl::Status Hold(uint32_t line);

  // The supervisor's: waits until every thread that holds a line has ended. False: line 0 is held
  // by nobody, the host plays with its lines, Cut() was called, or this kernel can't wait for a
  // line and for Cut() at once (Linux before 5.16).
  // REQUIRES: one thread; the lines are held by now.
  bool WaitForEnds();
  // Ends a wait, now or to come. Any thread.
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
