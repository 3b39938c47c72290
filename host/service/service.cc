// SPDX-License-Identifier: Apache-2.0
#include "host/service/service.h"

#include <sys/prctl.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ipc/check.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr char kStateItem[] = "state";
constexpr uint64_t kServesWithinNs = 30 * kNanosecondsPerSecond;
constexpr uint64_t kInterruptSeenWithinNs = kNanosecondsPerSecond / 10;

absl::Status AwaitServing(Supervisor& supervisor, const std::string& driver,
                          const Service::Environment& environment) {
  const uint64_t until_ns = environment.now_ns() + kServesWithinNs;
  for (;;) {
    if (environment.interrupted != nullptr && environment.interrupted->load()) {
      return absl::CancelledError(
          absl::StrCat("interrupted while the driver '", driver, "' was being started"));
    }
    const uint64_t next_ns = std::min(until_ns, environment.now_ns() + kInterruptSeenWithinNs);
    absl::Status status = supervisor.WaitUntilServing(driver, next_ns);
    if (!absl::IsDeadlineExceeded(status) || next_ns == until_ns) return status;
  }
}

absl::StatusOr<DriverConfig> Configure(const ServiceDriver& driver) {
  absl::StatusOr<Manifest> manifest = FindDriver(driver.driver, DriverSearchFolders());
  if (!manifest.ok()) return manifest.status();
  DriverConfig config;
  config.manifest = *manifest;
  config.content_folder = ContentFolderOf(driver, *manifest);
  const uint32_t cpus = std::max(1u, std::thread::hardware_concurrency());
  config.channel.altitude = manifest->altitude;
  config.channel.flags = manifest->channel_flags;
  config.channel.geometry = {.lanes = std::min(cpus, BH_LANES_MAX),
                             .slots_per_lane = 32,
                             .call_chunks = 32 * std::min(cpus, BH_LANES_MAX),
                             .reply_chunks = 0};
  // A ring is memory: 1 MiB.
  config.channel.notify_entries = bh_set_empty(&manifest->notifications) == 0 ? 2048 : 0;
  config.channel.policy = driver.policy;
  config.channel.cache_entries = driver.cache_entries;
  config.channel.spin_ns = driver.spin_us * 1000;
  config.options = driver.options;
  return config;
}

}  // namespace

std::string ContentFolderOf(const ServiceDriver& driver, const Manifest& manifest) {
  if (!manifest.takes_content) return "";
  if (!driver.content_folder.empty() || manifest.content_default.empty()) {
    return driver.content_folder;
  }
  return manifest.folder + "/" + manifest.content_default;
}

absl::StatusOr<std::string> ChannelsText(const ServiceConfig& config) {
  std::vector<std::string> drivers;
  for (const ServiceDriver& driver : config.drivers) {
    absl::StatusOr<DriverConfig> configured = Configure(driver);
    if (!configured.ok()) return configured.status();
    bh_channel_spec spec = configured->channel;
    bh_policy_default(&spec.policy);  // it can be changed
    drivers.push_back(absl::StrCat(configured->manifest.name, " ",
                                   absl::BytesToHexString(absl::string_view(
                                       reinterpret_cast<const char*>(&spec), sizeof(spec)))));
  }
  std::sort(drivers.begin(), drivers.end());
  return absl::StrCat("abi ", BH_ABI_VERSION, "\n", absl::StrJoin(drivers, "\n"));
}

namespace {

absl::StatusOr<StateFolder> FolderFor(DescriptorStore* store) {
  std::optional<DescriptorStore::Item> left;
  if (store != nullptr) left = store->Get(kStateItem);
  if (left && !left->descriptors.empty()) {
    absl::StatusOr<StateFolder> folder =
        StateFolder::Adopt(left->bytes, std::move(left->descriptors.front()));
    if (folder.ok()) return folder;
  }
  absl::StatusOr<StateFolder> folder = StateFolder::Create();
  if (folder.ok() && store != nullptr) {
    store->Put(kStateItem, folder->path(), {folder->lock().get()});
  }
  return folder;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Service>> Service::Start(const Environment& environment,
                                                        const ServiceConfig& config,
                                                        std::shared_ptr<ShimLink> link,
                                                        const std::string& attachment) {
  // Hosts may run as the same user: one that got past its filter must not open our /proc/PID/mem.
  BULKHEAD_CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
  absl::StatusOr<StateFolder> folder = FolderFor(environment.store);
  if (!folder.ok()) return folder.status();
  std::unique_ptr<Service> service(new Service(*std::move(folder), environment.hosts_group));
  service->spawner_ = std::make_unique<ProcessSpawner>(
      environment.host_program, &service->groups_, /*die_with_us=*/environment.store == nullptr);
  Supervisor::Options wanted;
  wanted.link = std::move(link);
  wanted.spawner = service->spawner_.get();
  wanted.store = environment.store;
  wanted.run_folder = service->folder_.path();
  wanted.attachment = attachment;
  wanted.limits = config.limits;
  wanted.sandbox_required = config.sandbox_required;
  wanted.now_ns = environment.now_ns;
  wanted.chance = environment.chance;
  wanted.on_event = environment.on_event;
  service->supervisor_ = std::make_unique<Supervisor>(std::move(wanted));
  for (const ServiceDriver& driver : config.drivers) {
    absl::StatusOr<DriverConfig> configured = Configure(driver);
    if (!configured.ok()) return configured.status();
    if (absl::Status status = service->supervisor_->AddDriver(*configured); !status.ok()) {
      return status;
    }
    service->names_.push_back(configured->manifest.name);
  }
  if (absl::Status status = service->supervisor_->Start(); !status.ok()) return status;
  for (const std::string& name : service->names_) {
    if (environment.on_progress) environment.on_progress(name);
    absl::Status status = AwaitServing(*service->supervisor_, name, environment);
    if (!status.ok()) return status;
  }
  return service;
}

}  // namespace bulkhead
