// SPDX-License-Identifier: Apache-2.0
//
// ChannelMemory: the shim's side of a channel's regions (see ipc/abi/channel.h): two, and a third
// where it has a notification ring.
//
// All are mapped writable here, pre-touched and sealed against resizing and against further seals;
// all but the reply region also against new writers, so that a process that gets a descriptor can
// only read. A process that loses this mapping can't make it again: successors inherit it by fork
// or clone. The regions are zeroed; bh_channel_init() writes the header, before a host gets
// descriptors.
#ifndef BULKHEAD_IPC_CHANNEL_MEMORY_H_
#define BULKHEAD_IPC_CHANNEL_MEMORY_H_

#include "absl/status/statusor.h"
#include "ipc/abi/channel.h"
#include "ipc/shared_memory.h"
#include "ipc/shim_link.h"

namespace bulkhead {

class ChannelMemory {
 public:
  ChannelMemory() = default;  // nothing: regions are null

  // InvalidArgument when !bh_geometry_valid() or !bh_notification_entries_valid();
  // ResourceExhausted when there is no memory.
  static absl::StatusOr<ChannelMemory> Create(const bh_geometry& geometry,
                                              uint32_t notify_entries = 0);

  const bh_geometry& geometry() const { return geometry_; }
  void* call_region() const { return call_.data(); }
  void* reply_region() const { return reply_.data(); }
  void* notification_region() const { return notifications_.data(); }  // null: no ring
  bool locked() const { return call_.locked() && reply_.locked(); }

  // Duplicates for a host.
  absl::StatusOr<ChannelDescriptors> Descriptors() const;

 private:
  bh_geometry geometry_ = {};
  SharedMemory call_;
  SharedMemory reply_;
  SharedMemory notifications_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CHANNEL_MEMORY_H_
