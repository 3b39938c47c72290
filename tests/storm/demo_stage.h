// SPDX-License-Identifier: Apache-2.0
//
// DemoStage: where the demo's files are and how they are asked about: by real system calls under
// fanotify (root), or through the embedded shim (anybody). The demo tells the same story on both.
#ifndef BULKHEAD_TESTS_STORM_DEMO_STAGE_H_
#define BULKHEAD_TESTS_STORM_DEMO_STAGE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "host/cli/program.h"
#include "host/cli/service_options.h"
#include "ipc/control/operator_protocol.h"

namespace bulkhead {

class DemoStage {
 public:
  struct Answer {
    bool allowed = false;
    bool refused = false;  // neither: something else went wrong, and `text` says what
    uint64_t started_ns = 0;
    uint64_t ended_ns = 0;
    std::string text;
  };
  virtual ~DemoStage() = default;
  virtual const char* name() const = 0;
  virtual const std::string& folder() const = 0;
  virtual absl::Status Start(const Program& program, const ServiceOptions& options, bool quiet) = 0;
  virtual Answer Open(const std::string& path) = 0;     // any thread
  virtual Answer Execute(const std::string& path) = 0;  // any thread
  virtual pid_t HostPid() = 0;
  // FailedPrecondition with the reason when it was rolled back.
  virtual absl::Status SetContent(const std::string& driver, const std::string& folder) = 0;
  virtual absl::StatusOr<StatusFields> Status() = 0;
  // Ends everything in order.
  virtual absl::Status Stop() = 0;
};

// The one that this machine and user allow: fanotify when it can be had.
absl::StatusOr<std::unique_ptr<DemoStage>> MakeDemoStage();

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_STORM_DEMO_STAGE_H_
