// SPDX-License-Identifier: Apache-2.0
//
// Worker: the process that takes events from the kernel and answers them. It may be killed at any
// instruction: the next one, started by the same keeper over the same memory and the same
// descriptor table, takes over its events (journal.h).
//
//   readers      take events, ask the drivers, answer (reader.h)
//   completer    advances the calls that take long (completer.h)
//   control      orders of the supervisor
//   events       sends the core's events to the supervisor
//   main         ends the process: when the keeper dies (after the events in hand), or when the
//                supervisor closes its socket (at once, by policy)
//
// Everything but main is a thread created after the clone, so that no code here depends on state of
// the keeper in the C library.
#ifndef BULKHEAD_SHIM_FANOTIFY_WORKER_H_
#define BULKHEAD_SHIM_FANOTIFY_WORKER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "ipc/channel_memory.h"
#include "ipc/exclusion_table.h"
#include "ipc/fanotify/journal.h"
#include "ipc/shim_link.h"
#include "shim/embedded/descriptor_route.h"
#include "shim/fanotify/event_table.h"

namespace bulkhead {

// One channel as the keeper made it, for all workers.
struct KeeperChannel {
  ChannelSpec spec;
  ChannelMemory memory;
  DescriptorRoute route;
  bool used = false;  // a worker has used it: the next one adopts it
};

struct WorkerSetup {
  Journal* journal = nullptr;
  const ExclusionTable* exclusions = nullptr;
  GuardGroups groups = {};
  int control = -1;
  uint32_t readers = 2;
  uint32_t in_flight_max = 0;
  pid_t keeper_pid = 0;
  int keeper_pidfd = -1;
  uint32_t incarnation = 0;
  std::vector<std::unique_ptr<KeeperChannel>> channels;
  std::set<int> keeper_descriptors;  // every other descriptor in the table belongs to an event or
                                     // is left over
};

// Runs in the cloned process; never returns.
[[noreturn]] void RunWorker(WorkerSetup& setup);

// The numbers of this process's open descriptors, without the one that reads them.
std::set<int> OpenDescriptors();

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_WORKER_H_
