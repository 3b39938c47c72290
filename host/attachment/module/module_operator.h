// SPDX-License-Identifier: Apache-2.0
//
// What an operator does to the kernel module from outside, without asking its supervisor. Needs
// root.
#ifndef BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_OPERATOR_H_
#define BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_OPERATOR_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace bulkhead {

bool ModuleLoaded();

// Nothing is guarded any more and waiting callers go on. NotFound: not loaded.
absl::Status EjectModule();

// A process with a descriptor or a mapping of the module's.
struct ModuleHolder {
  pid_t pid;
  std::string program;  // its command name
  bool supervisor;      // it has /dev/bulkhead itself
};
// As far as /proc shows them: those of other pid namespaces are not seen, nor are descriptors that
// are on their way through a socket.
std::vector<ModuleHolder> ModuleHolders();

// Kills every holder, tells of each, and unloads the module. FailedPrecondition: it is still in use
// at until_ns; the message names the processes. REQUIRES: ejected, or supervisors that come back
// guard again.
absl::Status UnloadModule(uint64_t until_ns,
                          const std::function<void(const ModuleHolder&)>& on_kill);

absl::Status LoadModule(const std::string& file);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_OPERATOR_H_
