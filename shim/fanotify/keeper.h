// SPDX-License-Identifier: Apache-2.0
//
// Keeper: the small process that lets a shim survive the death of its worker. It makes the
// channels' memory (which, once sealed, only its clones can write), holds the descriptor table, and
// starts a new worker whenever one dies. Single-threaded, and does nothing else, so that little in
// it can fail.
//
//   supervisor closes the socket   the worker ends (its own socket is closed too), then the keeper
//   worker dies                    the next one is cloned at once, with the descriptor table shared
//                                  (CLONE_FILES) and the memory inherited
//   keeper dies                    the worker sees it, ends its events and exits; the supervisor
//                                  starts a new keeper with new channels
#ifndef BULKHEAD_SHIM_FANOTIFY_KEEPER_H_
#define BULKHEAD_SHIM_FANOTIFY_KEEPER_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/fanotify/keeper_protocol.h"
#include "ipc/shared_memory.h"
#include "ipc/unique_fd.h"
#include "shim/fanotify/worker.h"

namespace bulkhead {

class Keeper {
 public:
  // Takes over the inherited descriptors of KeeperDescriptor.
  static absl::StatusOr<std::unique_ptr<Keeper>> Create();

  // Runs until the supervisor closes its socket. Returns the process's exit code.
  int Run();

 private:
  Keeper() = default;

  absl::Status HandleOrder();
  absl::Status Configure(const KeeperRequest& request);
  absl::Status AddChannel(const KeeperRequest& request);
  absl::Status StartWorker();
  void KillWorker();
  void ReapWorker();
  void Reply(const absl::Status& status, const ChannelDescriptors* descriptors);
  void StopInOrder();

  SharedMemory journal_memory_;
  SharedMemory exclusions_memory_;
  UniqueFd child_signal_;
  UniqueFd own_pidfd_;
  WorkerSetup setup_;
  pid_t worker_ = -1;
  bool configured_ = false;
  bool run_ = false;
  uint32_t order_ = 0;  // the number of the order in work
  bool stop_ = false;
  uint32_t unready_deaths_ = 0;  // workers in a row that died before they served
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_KEEPER_H_
