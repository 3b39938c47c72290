// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_SERVICE_PEERS_H_
#define BULKHEAD_HOST_SERVICE_PEERS_H_

#include <sys/types.h>

#include <map>

#include "ipc/shim_link.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// The other instances of this user on this machine. Two that guard each other's programs would wait
// for each other for ever once both have lost their hosts: a host's program is opened, its opener
// waits for a host. So what a peer starts does not wait here (ShimLink::ExcludePeer).
//
// For one thread. `link` must last as long.
class Peers {
 public:
  explicit Peers(ShimLink* link) : link_(*link) {}

  // Notices those that came and went. Waits for none of them.
  void Look();

 private:
  ShimLink& link_;
  std::map<pid_t, UniqueFd> known_;  // with their pidfds: a number may come back
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_PEERS_H_
