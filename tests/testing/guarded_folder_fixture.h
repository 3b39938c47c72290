// SPDX-License-Identifier: Apache-2.0
//
// GuardedFolder: a folder of real files on a file system of its own, guarded by `bulkhead run` in a
// process of its own, as an operator would run it. Nothing else on the machine is held up by it.
// For the demo and the storms: their own opens are those of a stranger, because a service's own are
// not asked about.
#ifndef BULKHEAD_TESTS_TESTING_GUARDED_FOLDER_FIXTURE_H_
#define BULKHEAD_TESTS_TESTING_GUARDED_FOLDER_FIXTURE_H_

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "host/cli/program.h"
#include "host/cli/service_options.h"
#include "host/service/temporary_folder.h"
#include "ipc/control/operator_protocol.h"

namespace bulkhead {

class GuardedFolder {
 public:
  // Moves the process to a mount namespace of its own and mounts there. Needs root. Call it before
  // the process has threads: a namespace belongs to a thread. `service`: the program beside this
  // one that takes the words of `bulkhead run`.
  static absl::StatusOr<std::unique_ptr<GuardedFolder>> Create(std::string service = "bulkhead");
  ~GuardedFolder();  // Stop()

  // A service that is started from now on is asked to end when the thread that started it has
  // ended: for a program that may end without Stop(). REQUIRES: that thread lasts as long as the
  // service.
  void EndServiceWithItsStarter() { ends_with_starter_ = true; }

  // Starts the service, returns when the folder is guarded. `quiet`: without the service's own
  // lines. `attach` as in `bulkhead run`.
  absl::Status Guard(const Program& program, const ServiceOptions& options, bool quiet,
                     const std::string& attach = "auto");
  // A service that was killed is gone, and Guard() may be called again.
  void Reap();
  // Ends the service in order. DeadlineExceeded: it did not end, and was killed. What it counted:
  // the figures of `bulkhead run --json`, by name.
  absl::StatusOr<std::map<std::string, double>> Stop();

  const std::string& path() const { return folder_.path(); }
  // What `bulkhead status` shows.
  absl::StatusOr<StatusFields> Status() const;
  // The first driver's host, and the shim's worker; -1 when there is none.
  pid_t ServicePid() const { return service_; }
  pid_t HostPid() const;
  pid_t ShimPid() const;
  absl::Status SetContent(const std::string& driver, const std::string& folder) const;

 private:
  GuardedFolder(TemporaryFolder folder, TemporaryFolder reports, std::string program)
      : folder_(std::move(folder)), reports_(std::move(reports)), program_(std::move(program)) {}
  std::optional<int> AwaitEnd();

  TemporaryFolder folder_;
  TemporaryFolder reports_;
  const std::string program_;
  bool mounted_ = false;
  bool ends_with_starter_ = false;
  pid_t service_ = -1;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_GUARDED_FOLDER_FIXTURE_H_
