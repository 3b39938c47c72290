// SPDX-License-Identifier: Apache-2.0
//
// KeeperProcess: starts bulkhead-shim-fanotify and reaps it.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_KEEPER_PROCESS_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_KEEPER_PROCESS_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/control_socket.h"
#include "ipc/fanotify/keeper_protocol.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class KeeperProcess {
 public:
  struct Descriptors {
    int journal = -1;
    int exclusions = -1;
    std::array<int, kGuardGroups> groups = {};
  };

  KeeperProcess() = default;  // none
  KeeperProcess(KeeperProcess&&) = default;
  KeeperProcess& operator=(KeeperProcess&&) = default;

  // Starts `program` with duplicates of the descriptors. `before_exec` is called with the process's
  // id before the process runs an instruction of its own, or opens its own file. NotFound,
  // PermissionDenied … when it can't be executed.
  static absl::StatusOr<KeeperProcess> Start(const std::string& program,
                                             const Descriptors& descriptors,
                                             const std::function<absl::Status(pid_t)>& before_exec);

  // One that a supervisor before this one has left.
  static KeeperProcess Adopt(pid_t pid, UniqueFd pidfd);

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable when it has ended
  ControlSocket TakeControl() { return std::move(control_); }
  UniqueFd TakeOrders() { return std::move(orders_); }

  // Waits until until_ns for the process to end, then kills it. Afterwards it is reaped. False if
  // it was killed.
  bool Reap(uint64_t until_ns);

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  ControlSocket control_;
  UniqueFd orders_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_KEEPER_PROCESS_H_
