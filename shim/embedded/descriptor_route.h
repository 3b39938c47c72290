// SPDX-License-Identifier: Apache-2.0
//
// DescriptorRoute: the way that a channel's files take to the host. One descriptor number for the
// whole life of the channel; behind it is the socket of the current generation.
//
// Senders use the number without a lock while another thread changes the socket behind it: dup3()
// replaces the socket in one step, so the number is never closed, never free, and never another
// file's. A late sender may send a note with an old ticket to a new host, which drops the note
// because of the generation in the ticket. In a process that shares its descriptor table, the
// number stays open after its users have ended.
#ifndef BULKHEAD_SHIM_EMBEDDED_DESCRIPTOR_ROUTE_H_
#define BULKHEAD_SHIM_EMBEDDED_DESCRIPTOR_ROUTE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class DescriptorRoute {
 public:
  // Not connected yet.
  static absl::StatusOr<DescriptorRoute> Create();

  DescriptorRoute(DescriptorRoute&&) = default;
  DescriptorRoute& operator=(DescriptorRoute&&) = default;

  // Not concurrently with Disconnect() or another Connect(); concurrently with any number of
  // Send().
  absl::Status Connect(UniqueFd socket);
  void Disconnect();

  // As bh_platform.send_descriptor: 0 sent, -1 no room now (or the host has closed its end), -2
  // this file can never be sent.
  int Send(uint32_t slot, uint64_t ticket, int descriptor) const;

 private:
  DescriptorRoute(UniqueFd route, UniqueFd nowhere);

  UniqueFd route_;
  UniqueFd nowhere_;  // a socket with its other end closed
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_DESCRIPTOR_ROUTE_H_
