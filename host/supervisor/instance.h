// SPDX-License-Identifier: Apache-2.0
//
// Instance: what makes a running service findable, and the only one on its folders.
//
//   /run/bulkhead/lock-DEVICE-INODE   held with flock by the instance that guards that folder
//   /run/bulkhead/PID.sock            its control socket
//
// A user other than root has the same below $XDG_RUNTIME_DIR, or /tmp/bulkhead-UID. A lock goes
// with the process that holds it, however that ends; the file stays, and means nothing without a
// holder.
#ifndef BULKHEAD_HOST_SUPERVISOR_INSTANCE_H_
#define BULKHEAD_HOST_SUPERVISOR_INSTANCE_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class Instance {
 public:
  // Locks every folder. AlreadyExists names the process that guards one of them.
  static absl::StatusOr<Instance> Claim(const std::vector<std::string>& folders);
  Instance(Instance&&) = default;
  Instance& operator=(Instance&&) = default;
  ~Instance();  // removes the lock files

 private:
  Instance() = default;
  std::vector<UniqueFd> locks_;
  std::vector<std::string> lock_paths_;
};

// Where the sockets and locks of this user's instances are.
std::string RunFolder();
// Makes a folder of this user's alone. PermissionDenied when it is there already and others may
// write in it: in /tmp another user could have made it first.
absl::Status MakePrivateFolder(const std::string& folder);
// Control socket of the instance that is process `pid`.
std::string InstanceSocket(pid_t pid);
// Control sockets of the instances that this user can reach, dead ones included.
std::vector<std::string> InstanceSockets();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_INSTANCE_H_
