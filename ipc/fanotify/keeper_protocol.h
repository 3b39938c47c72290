// SPDX-License-Identifier: Apache-2.0
//
// The messages between a supervisor and its keeper: fixed datagrams over a socket that no other
// process has. Both come from the same build (checked by a version) and trust each other; closing
// the socket is the order to stop.
//
//   supervisor                               keeper
//   kConfigure (readers, in flight)    ->    kDone
//   kAddChannel (spec)                 ->    kDone with two descriptors: call region, reply region
//   kRun                               ->    kDone: a worker runs from now on
//
// A reply has its order's number: one that comes after the supervisor has given the order up is not
// taken for the reply to the next.
//
// A channel can be added while a worker runs: the keeper ends that worker and starts the next,
// which takes everything over, as after a crash.
#ifndef BULKHEAD_IPC_FANOTIFY_KEEPER_PROTOCOL_H_
#define BULKHEAD_IPC_FANOTIFY_KEEPER_PROTOCOL_H_

#include <cstdint>

#include "ipc/abi/channel_spec.h"
#include "ipc/fanotify/journal.h"

namespace bulkhead {

inline constexpr uint32_t kKeeperVersion = 7;

// Descriptors that a keeper inherits.
enum KeeperDescriptor : int {
  kKeeperSocketFd = 3,
  kKeeperControlFd = 4,  // control messages of the workers
  kKeeperJournalFd = 5,
  kKeeperExclusionsFd = 6,
  kKeeperGroupsFd = 7,  // kGuardGroups of them
  kKeeperDescriptorsEnd = kKeeperGroupsFd + static_cast<int>(kGuardGroups),
};

enum class KeeperOrder : uint32_t { kConfigure = 1, kAddChannel = 2, kRun = 3 };

struct KeeperRequest {
  uint32_t version;
  KeeperOrder order;
  uint32_t number;
  // kConfigure
  uint32_t readers;
  uint32_t in_flight_max;
  // kAddChannel
  bh_channel_spec spec;
  char driver[64];
};

struct KeeperReply {
  uint32_t version;
  uint32_t number;
  uint32_t failed;  // 0: done
  char error[248];
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_FANOTIFY_KEEPER_PROTOCOL_H_
