// SPDX-License-Identifier: Apache-2.0
//
// HostRun: one real bulkhead-host process, with the test as its supervisor. Each step of a start is
// a function, so that a test can leave one out.
#ifndef BULKHEAD_TESTS_TESTING_HOST_PROCESS_FIXTURE_H_
#define BULKHEAD_TESTS_TESTING_HOST_PROCESS_FIXTURE_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/supervisor/spawner.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/shared_memory.h"
#include "ipc/shim_link.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class HostRun {
 public:
  // Executes `program` and waits for its Hello. It inherits `leave_open`, to simulate a parent that
  // leaks descriptors.
  static absl::StatusOr<std::unique_ptr<HostRun>> Spawn(const std::string& program,
                                                        int leave_open = -1);
  // The same as a supervisor does it: in a process id namespace of its own, where that is possible.
  static absl::StatusOr<std::unique_ptr<HostRun>> SpawnInNamespace(
      const std::string& program, const HostLimits& limits = {.memory_bytes_max = 1 << 30},
      HostCgroups* groups = nullptr);
  ~HostRun();  // kills and reaps it

  // Sends Attach with `checkpoint` (or, when that is -1, another descriptor in its place) and, but
  // for a standby, the channel's regions and a socket for files.
  absl::Status Attach(ShimLink& link, ChannelId channel, AttachFields fields, int checkpoint = -1);
  // Waits for Started; FailedPrecondition with the host's text when it sends StartFailed.
  absl::Status AwaitStarted();
  // Of a standby. Waits for Ready.
  absl::Status AwaitReady();
  // Sends it Serve, with the channel; Started, and that generation begins.
  absl::Status TakeOver(ShimLink& link, ChannelId channel, AttachFields fields);
  // Attach, Started, and the channel's generation begins.
  absl::Status Begin(ShimLink& link, ChannelId channel, const AttachFields& fields,
                     int checkpoint = -1);

  // The next message other than a log line, which is added to log(), and Sandboxed.
  absl::StatusOr<ControlMessage> Receive();
  // Waits for the end of the process. Returns the status of waitpid(); -1 when the process did not
  // end in time.
  int Wait();
  int Kill();  // the same, with SIGKILL before

  pid_t pid() const { return pid_; }
  ControlSocket& control() { return control_; }
  const std::string& log() const { return log_; }
  // Of SpawnInNamespace(): what the spawner says of it.
  const ChildProcess& child() const { return child_; }
  // From Sandboxed.
  const SandboxFields& sandbox() const { return sandbox_; }
  // What it logged and had not sent when it ended.
  const SharedMemory& log_memory() const { return log_memory_; }
  // From Started.
  const bh_callback_set& callbacks() const { return started_.callbacks; }
  const bh_callback_set& descriptors() const { return started_.descriptors; }
  uint64_t spawned_ns() const { return spawned_ns_; }
  uint64_t hello_ns() const { return hello_ns_; }

 private:
  HostRun() = default;
  absl::Status AwaitHello();
  // The host's ends, in the order of a message's descriptors.
  absl::StatusOr<std::vector<UniqueFd>> OpenChannel(ShimLink& link, ChannelId channel);
  absl::Status BeginStarted(ShimLink& link, ChannelId channel, const AttachFields& fields);

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  ChildProcess child_;
  ControlSocket control_;
  UniqueFd shim_files_;
  std::string log_;
  SandboxFields sandbox_;
  SharedMemory log_memory_;
  StartedFields started_;
  uint64_t spawned_ns_ = 0;
  uint64_t hello_ns_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_HOST_PROCESS_FIXTURE_H_
