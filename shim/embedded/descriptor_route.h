// SPDX-License-Identifier: Apache-2.0
//
// DescriptorRoute: where a channel's files go. One descriptor number for the whole life of the
// channel, behind which the socket of the present generation stands.
//
// Senders use the number without a lock while another thread changes what stands behind it: dup3()
// replaces it in one step, so the number is never closed, never free, and never somebody else's. A
// sender that is late by a moment sends a note with an old ticket to a new host, which drops it by
// the generation in the ticket. In a process that shares its descriptor table the number outlives
// its users.
#ifndef BULKHEAD_SHIM_EMBEDDED_DESCRIPTOR_ROUTE_H_
#define BULKHEAD_SHIM_EMBEDDED_DESCRIPTOR_ROUTE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class DescriptorRoute {
 public:
  // Leads nowhere yet.
  static absl::StatusOr<DescriptorRoute> Create();

  DescriptorRoute(DescriptorRoute&&) = default;
  DescriptorRoute& operator=(DescriptorRoute&&) = default;

  // Not beside Disconnect() or another Connect(); beside any number of Send().
  absl::Status Connect(UniqueFd socket);
  void Disconnect();

  // As bh_platform.send_descriptor: 0, -1 no room now (or nobody there any more), -2 never.
  int Send(uint32_t slot, uint64_t ticket, int descriptor) const;

 private:
  DescriptorRoute(UniqueFd route, UniqueFd nowhere);

  UniqueFd route_;
  UniqueFd nowhere_;  // a socket whose other end is closed
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_DESCRIPTOR_ROUTE_H_
