// SPDX-License-Identifier: Apache-2.0
//
// HostTransport: how a host maps a channel, sleeps, wakes and gets files. Each transport is a row
// (HostTransportKind): which descriptors are its own, how the regions behind them are mapped, what
// its host asks of the kernel through them. This folder has one of them (futex_transport.h: sealed
// memory, futexes, and a socket for files); an attachment whose shim is reached by something else
// brings its own.
//
// Threads: any. The words are those of the reply region; see ipc/abi/channel.h.
#ifndef BULKHEAD_IPC_HOST_TRANSPORT_H_
#define BULKHEAD_IPC_HOST_TRANSPORT_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/abi/channel.h"
#include "ipc/futex.h"
#include "ipc/shared_memory.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class HostTransport {
 public:
  virtual ~HostTransport() = default;
  // Sleeps while *word, the worker's sleeping word, is `announced`. BH_WORKER_NOTIFICATIONS is a
  // worker too.
  virtual FutexResult WaitForCall(uint32_t worker, uint32_t* word, uint32_t announced,
                                  uint64_t until_ns) = 0;
  // The word was set to 0.
  virtual void WakeWorker(uint32_t worker, uint32_t* word) = 0;
  // The bell of this slot was changed.
  virtual void WakeCaller(uint32_t slot, uint32_t* bell) = 0;
  // The file of a call; never waits. NotFound when it is not there.
  virtual absl::StatusOr<UniqueFd> ReceiveFile(uint32_t slot, uint64_t ticket) = 0;
  // Files that fit no call.
  virtual uint64_t stray_files() const = 0;
  // The channel's notification ring, read-only. InvalidArgument when it is not what this transport
  // requires of one; its header is not looked at.
  virtual absl::StatusOr<SharedMemory> MapNotifications(UniqueFd region) = 0;
};

// What a host was handed of its channel.
struct HostDescriptors {
  UniqueFd call_region;
  UniqueFd reply_region;
  UniqueFd files;  // may be empty: no callback carries a file, or the transport fetches them
};

// A channel as a host has it: geometry and seals were checked, as far as its shim is not believed.
struct MappedChannel {
  bh_geometry geometry = {};
  SharedMemory call;   // read-only; bh_call_region_bytes()
  SharedMemory reply;  // bh_reply_region_bytes()
  std::unique_ptr<HostTransport> transport;
};

struct HostTransportKind {
  const char* name;
  // Whether a call region's descriptor is one of this transport's.
  bool (*recognizes)(int call_region);
  // InvalidArgument says which part of the channel is wrong. `generation` is the host's own.
  absl::StatusOr<MappedChannel> (*map)(HostDescriptors descriptors, uint32_t generation);
  // What its host asks of the kernel through the descriptors: a sandbox allows it these and no
  // others.
  absl::Span<const unsigned long> ioctls;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_HOST_TRANSPORT_H_
