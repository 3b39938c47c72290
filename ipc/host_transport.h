// SPDX-License-Identifier: Apache-2.0
//
// HostTransport: how a host sleeps, wakes and gets files, all that a channel is besides memory. Two
// kinds: with a shim in user mode by futexes and a socket for files, with the kernel module by its
// descriptor.
//
// Threads: any. The words are those of the reply region; see ipc/abi/channel.h.
#ifndef BULKHEAD_IPC_HOST_TRANSPORT_H_
#define BULKHEAD_IPC_HOST_TRANSPORT_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "ipc/abi/module.h"
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
};

std::unique_ptr<HostTransport> MakeFutexTransport(UniqueFd descriptor_socket, uint32_t generation,
                                                  uint32_t slots);
// `device` is a host descriptor of the module.
std::unique_ptr<HostTransport> MakeModuleTransport(UniqueFd device);

// Whether a descriptor is one of the module's; then the channel's geometry is in *geometry.
bool IsModuleHost(int fd, bh_geometry* geometry);
// Whether it is one of a channel with a notification ring; then *entries is the ring's size.
bool IsModuleRing(int fd, uint32_t* entries);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_HOST_TRANSPORT_H_
