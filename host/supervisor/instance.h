// SPDX-License-Identifier: Apache-2.0
//
// Instance: what makes a running service findable, and the only one on its folders.
//
//   /run/bulkhead/lock-DEVICE-INODE   held with flock by the instance that guards that folder
//   /run/bulkhead/PID.sock            its control socket
//
//   /run/bulkhead-operators/PID.sock  of a service of root's that admits groups
//   (operator_rights.h):
//                                     apart, so that no other user comes into the folder above
//
// A user other than root has the first two below $XDG_RUNTIME_DIR, or /tmp/bulkhead-UID. A lock
// goes with the process that holds it, however that ends; the file stays, and means nothing without
// a holder.
#ifndef BULKHEAD_HOST_SUPERVISOR_INSTANCE_H_
#define BULKHEAD_HOST_SUPERVISOR_INSTANCE_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class Instance {
 public:
  // Locks every folder. AlreadyExists names the process that guards one of them, or the folder that
  // is there twice, under different names.
  static absl::StatusOr<Instance> Claim(const std::vector<std::string>& folders);
  // These, too; of those that are locked already, nothing changes. After an error nothing has.
  absl::Status Add(const std::vector<std::string>& folders);
  // The others are free.
  void KeepOnly(const std::vector<std::string>& folders);
  Instance(Instance&&) = default;
  Instance& operator=(Instance&&) = default;
  ~Instance();  // removes the lock files

 private:
  Instance() = default;
  std::map<std::string, UniqueFd> locks_;  // by their files
};

// Where the sockets and locks of this user's instances are.
std::string RunFolder();
// Makes a folder of this user's alone. PermissionDenied when it is there already and others may
// write in it: in /tmp another user could have made it first.
absl::Status MakePrivateFolder(const std::string& folder);
// Control socket of the instance that is process `pid`.
std::string InstanceSocket(pid_t pid);
// Control sockets of this user's instances, dead ones included.
std::vector<std::string> InstanceSockets();

// The socket of that instance of root's for the members of its groups.
std::string GroupSocket(pid_t pid);
// Makes its folder. FailedPrecondition: this user is not root; PermissionDenied: other users may
// write in it.
absl::Status MakeGroupFolder();
// The sockets to ask, for a command of this user's: its own instances', and root's for groups. Of
// an instance that has both, the first. Of `pid`, unless that is 0.
std::vector<std::string> SocketsToAsk(pid_t pid = 0);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_INSTANCE_H_
