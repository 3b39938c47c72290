// SPDX-License-Identifier: Apache-2.0
//
// Service: some drivers, their supervisor, and a shim, put together as a configuration says.
#ifndef BULKHEAD_HOST_SERVICE_SERVICE_H_
#define BULKHEAD_HOST_SERVICE_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/service/service_config.h"
#include "host/service/state_folder.h"
#include "host/supervisor/driver_event.h"
#include "host/supervisor/host_cgroup.h"
#include "host/supervisor/manifest.h"
#include "host/supervisor/spawner.h"
#include "host/supervisor/supervisor.h"
#include "ipc/shim_link.h"

namespace bulkhead {

class Service {
 public:
  struct Environment {
    std::string host_program;  // bulkhead-host
    std::function<uint64_t()> now_ns;
    std::function<uint64_t()> chance;
    std::function<void(const DriverEvent&)> on_event;  // may be empty
    // Before the driver of this name is waited for; may be empty.
    std::function<void(const std::string&)> on_progress = {};
    const std::atomic<bool>* interrupted = nullptr;  // when it is set, Start gives up
    // For the service after this one, and with what one before has left. Not owned; outlives this.
    // Null: hosts end with this one.
    DescriptorStore* store = nullptr;
    // HostCgroups::Find()
    std::string hosts_group = {};
  };

  // Finds the drivers, makes channels, starts hosts; waits until each serves. Cancelled when it was
  // interrupted.
  // `attachment`: the link's, for the status. REQUIRES: CheckConfig(config).ok().
  static absl::StatusOr<std::unique_ptr<Service>> Start(const Environment& environment,
                                                        const ServiceConfig& config,
                                                        std::shared_ptr<ShimLink> link,
                                                        const std::string& attachment);
  Supervisor& supervisor() { return *supervisor_; }
  // By name, in the order of the configuration.
  const std::vector<std::string>& drivers() const { return names_; }
  // Where it keeps what it made for its hosts.
  const std::string& folder() const { return folder_.path(); }
  // Ends every host. Also done by the destructor.
  void Stop() { supervisor_->Stop(); }

 private:
  Service(StateFolder folder, const std::string& hosts_group)
      : folder_(std::move(folder)), groups_(HostCgroups::Find("/proc", hosts_group)) {}

  StateFolder folder_;
  HostCgroups groups_;
  std::unique_ptr<ProcessSpawner> spawner_;
  std::unique_ptr<Supervisor> supervisor_;
  std::vector<std::string> names_;
};

// What a service must have in common with the one before to go on with its channels. Errors are
// those of Start().
absl::StatusOr<std::string> ChannelsText(const ServiceConfig& config);

// The folder with a driver's content: the operator's, or the one that its manifest names. Empty:
// none.
std::string ContentFolderOf(const ServiceDriver& driver, const Manifest& manifest);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_SERVICE_H_
