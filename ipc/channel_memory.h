// SPDX-License-Identifier: Apache-2.0
//
// ChannelMemory: the shim's side of a channel's two regions (see ipc/abi/channel.h).
//
// Both are mapped writable here, pre-touched and sealed against resizing and against further seals;
// the call region also against new writers, so that whoever gets its descriptor can only read it.
// A process that loses this mapping can't make it again: successors inherit it by fork or clone.
// The regions are zeroed; bh_channel_init() writes the header, before a host gets descriptors.
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

  // InvalidArgument when !bh_geometry_valid(); ResourceExhausted when there is no memory.
  static absl::StatusOr<ChannelMemory> Create(const bh_geometry& geometry);

  const bh_geometry& geometry() const { return geometry_; }
  void* call_region() const { return call_.data(); }
  void* reply_region() const { return reply_.data(); }
  bool locked() const { return call_.locked() && reply_.locked(); }

  // Duplicates for a host.
  absl::StatusOr<ChannelDescriptors> Descriptors() const;

 private:
  bh_geometry geometry_ = {};
  SharedMemory call_;
  SharedMemory reply_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CHANNEL_MEMORY_H_
