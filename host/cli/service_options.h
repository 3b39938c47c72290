// SPDX-License-Identifier: Apache-2.0
//
// ServiceOptions: the words that run and scan share. They hold for all drivers and all guards
// alike; a ServiceConfig can say more.
#ifndef BULKHEAD_HOST_CLI_SERVICE_OPTIONS_H_
#define BULKHEAD_HOST_CLI_SERVICE_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/cli/program.h"
#include "host/service/service.h"
#include "host/service/service_config.h"

namespace CLI {
class App;
}

namespace bulkhead {

struct ServiceOptions {
  std::vector<std::string> drivers;  // names or folders
  ServiceDriver each;                // what holds for each of them
  uint64_t deadline_ns = GuardSpec::kDefaultDeadlineNs;
  LifecycleLimits limits;
  bh_sandbox_level sandbox_required = BH_SANDBOX_BASIC;
  std::function<void(const DriverEvent&)> on_event;
};

// --driver, --rules, --on-…, --deadline, as run, scan and others have them. `options` is filled
// while the words are parsed.
void AddServiceOptions(CLI::App& app, ServiceOptions& options);

// For CLI11's check(): empty, or what is wrong with it.
std::string NamesAFolder(const std::string& text);

// Without guards.
ServiceConfig ConfigOf(const ServiceOptions& options);

Service::Environment EnvironmentOf(const Program& program, const ServiceOptions& options);

// Checks and starts a service without guards.
absl::StatusOr<std::unique_ptr<Service>> StartService(const Program& program,
                                                      const ServiceOptions& options,
                                                      std::shared_ptr<ShimLink> link,
                                                      const std::string& attachment);

// "scanner g3 (pid 42): text" on standard error.
void PrintEvent(const DriverEvent& event);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_SERVICE_OPTIONS_H_
