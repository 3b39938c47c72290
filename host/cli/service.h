// SPDX-License-Identifier: Apache-2.0
//
// Service: some drivers, their supervisor, and a shim, put together as the command line asks.
#ifndef BULKHEAD_HOST_CLI_SERVICE_H_
#define BULKHEAD_HOST_CLI_SERVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "host/cli/program.h"
#include "host/supervisor/driver_event.h"
#include "host/supervisor/lifecycle.h"
#include "host/supervisor/spawner.h"
#include "host/supervisor/supervisor.h"
#include "ipc/shim_link.h"

namespace bulkhead {

struct ServiceOptions {
  std::vector<std::string> drivers;  // names or folders
  std::string rules;                 // content of those that need some; empty: their default
  bh_policy policy = DefaultPolicy();
  uint64_t deadline_ns = 5'000'000'000;
  uint32_t cache_entries = 0;
  uint32_t spin_us = 20;       // the longest that callers and workers spin before they sleep
  std::string driver_options;  // added to the manifest's
  LifecycleLimits limits;
  std::function<void(const DriverEvent&)> on_event;
};

// --driver, --rules, --on-…, --deadline, as run, scan and others have them. `options` is filled
// while the words are parsed.
void AddServiceOptions(CLI::App& app, ServiceOptions& options);

class Service {
 public:
  // Finds the drivers, makes channels, starts hosts; waits until each serves. `link` outlives it.
  static absl::StatusOr<std::unique_ptr<Service>> Start(const Program& program,
                                                        const ServiceOptions& options,
                                                        ShimLink* link,
                                                        const std::string& attachment);
  Supervisor& supervisor() { return *supervisor_; }
  const std::vector<std::string>& drivers() const { return names_; }
  // Where it keeps what it made for its hosts.
  const std::string& folder() const { return folder_.path(); }
  // Ends every host. Also done by the destructor.
  void Stop() { supervisor_->Stop(); }

 private:
  explicit Service(TemporaryFolder folder) : folder_(std::move(folder)) {}

  TemporaryFolder folder_;
  std::unique_ptr<ProcessSpawner> spawner_;
  std::unique_ptr<Supervisor> supervisor_;
  std::vector<std::string> names_;
};

// "scanner g3 (pid 42): text" on standard error.
void PrintEvent(const DriverEvent& event);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_SERVICE_H_
