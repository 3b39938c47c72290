// SPDX-License-Identifier: Apache-2.0
//
// DaemonProcess: a bulkheadd with a configuration file, for programs that kill and stop what it is
// made of. What it leaves is ended with this object.
//
// Threads: one, but for Status() and Ask().
#ifndef BULKHEAD_TESTS_TESTING_DAEMON_PROCESS_H_
#define BULKHEAD_TESTS_TESTING_DAEMON_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "host/service/program.h"
#include "host/service/temporary_folder.h"
#include "ipc/control/operator_protocol.h"
#include "tests/testing/notify_socket.h"

namespace bulkhead {

class DaemonProcess {
 public:
  // `config`: the text of its file. Sets NOTIFY_SOCKET in this process' environment.
  static absl::StatusOr<std::unique_ptr<DaemonProcess>> Create(const Program& program,
                                                               const std::string& config);
  ~DaemonProcess();

  // Returns when it guards. How long that took in milliseconds, from its fork.
  absl::StatusOr<double> Start();
  // When it went on with the host, after its fork; of the clock of the events.
  absl::StatusOr<double> AdoptedAfterMs() const;
  void Kill();
  absl::Status Stop();

  absl::StatusOr<StatusFields> Status() const;
  // An operator's request that is answered with Done. What it was refused for.
  absl::Status Ask(const ControlBuffer& request) const;
  // The process that holds what the next service needs; -1: none.
  pid_t StorePid() const;
  // What the service has said since the first start, or since ForgetLog().
  std::string Log() const;
  void ForgetLog() const;

  pid_t pid() const { return pid_; }
  const std::string& folder() const { return folder_.path(); }

 private:
  DaemonProcess(const Program& program, TemporaryFolder folder);

  const Program& program_;
  const TemporaryFolder folder_;
  const std::string config_;
  NotifySocket notify_;
  pid_t pid_ = -1;
  uint64_t began_us_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_DAEMON_PROCESS_H_
