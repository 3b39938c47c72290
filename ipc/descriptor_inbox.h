// SPDX-License-Identifier: Apache-2.0
//
// DescriptorInbox: the host's end of a generation's descriptor socket. Files arrive in the order in
// which the shim sent them; workers ask for them in the order in which they took the calls. A file
// that arrives before its worker asks for it is kept here, at most one for each slot.
//
// Threads: any. The lock is held for system calls that don't wait, never while a driver runs.
#ifndef BULKHEAD_IPC_DESCRIPTOR_INBOX_H_
#define BULKHEAD_IPC_DESCRIPTOR_INBOX_H_

#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "ipc/abi/channel.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class DescriptorInbox {
 public:
  DescriptorInbox(UniqueFd socket, uint32_t generation, uint32_t slots);

  // The file that the shim sent ahead of `ticket`. Never waits: the shim sends the file before it
  // stores the ticket. NotFound when no file came; Unavailable when there is no socket or the shim
  // has closed it.
  absl::StatusOr<UniqueFd> Receive(uint32_t slot, uint64_t ticket);

  // Notes that match no call of this generation; their files were closed.
  uint64_t stray() const;

 private:
  struct Entry {
    uint64_t ticket = BH_TICKET_NONE;
    UniqueFd file;
  };
  enum class Drained { kOne, kNothingThere, kClosed };
  Drained ReceiveOne();

  const UniqueFd socket_;
  const uint32_t generation_;
  mutable std::mutex mutex_;
  std::vector<Entry> by_slot_;
  uint64_t stray_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_DESCRIPTOR_INBOX_H_
