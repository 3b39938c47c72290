// SPDX-License-Identifier: Apache-2.0
//
// What the lifecycle wants done, carried out by the supervisor's thread: processes, what the hosts
// are told, and what the shim is told about them.
#include <sys/socket.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/supervisor/supervisor.h"
#include "host/supervisor/supervisor_driver.h"
#include "ipc/control_socket.h"

namespace bulkhead {
namespace {

constexpr size_t kRecoverySamplesMax = 100'000;

}  // namespace

void Supervisor::Step(Driver& driver, Event event) {
  const std::vector<ActionItem> actions = driver.lifecycle->Step(event, options_.now_ns());
  for (const ActionItem& action : actions) Perform(driver, action);
}

void Supervisor::Perform(Driver& driver, const ActionItem& action) {
  ShimLink& link = *options_.link;
  absl::Status status;
  switch (action.kind) {
    case ActionKind::kSpawn:
      SpawnHost(driver, action);
      break;
    case ActionKind::kAttach:
      status = AttachHost(driver, action);
      if (status.ok()) break;
      driver.start_failure = absl::StrCat("its host took no Attach: ", status.message());
      if (driver.child) options_.spawner->Kill(*driver.child);
      break;
    case ActionKind::kBegin: {
      // A driver that is told nothing still answers.
      status = link.SetNotifications(driver.channel, driver.notifications);
      if (!status.ok()) {
        Report(driver, DriverEventKind::kLinkFailed, std::string(status.message()));
      }
      status =
          link.BeginGeneration(driver.channel, action.generation, driver.callbacks,
                               driver.descriptors, action.content, std::move(driver.shim_files));
      const uint64_t now_ns = options_.now_ns();
      driver.heard_ns = driver.ping_ns = now_ns;
      driver.rest = {};
      driver.quarantine_reason.clear();
      if (!status.ok()) {
        Report(driver, DriverEventKind::kBeginFailed, std::string(status.message()));
        if (driver.child) options_.spawner->Kill(*driver.child);
        return;
      }
      if (driver.death_seen_ns != 0 && driver.recoveries.size() < kRecoverySamplesMax) {
        driver.recoveries.push_back({driver.death_seen_ns, now_ns});
      }
      driver.death_seen_ns = 0;
      Report(driver, DriverEventKind::kServing);
      break;
    }
    case ActionKind::kEnd:
      status = link.EndGeneration(driver.channel, action.generation, action.end);
      if (absl::IsNotFound(status)) status = absl::OkStatus();  // its channel went before it
      ReportEnd(driver, action);
      break;
    case ActionKind::kDrain:
      status = link.SetState(driver.channel, /*quarantined=*/false, /*draining=*/true);
      // Who can't be told leaves when the time for it is over: the timer kills.
      (void)driver.Tell(MakeDrain(action.generation));
      break;
    case ActionKind::kKill:
      if (driver.child) options_.spawner->Kill(*driver.child);
      break;
    case ActionKind::kSetTimer:
      driver.timer_ns = action.at_ns;
      break;
    case ActionKind::kQuarantine:
      status = link.SetState(driver.channel, /*quarantined=*/true, /*draining=*/false);
      driver.quarantine_reason =
          driver.start_failure.empty() ? driver.last_end : driver.start_failure;
      Report(driver, DriverEventKind::kQuarantined, driver.quarantine_reason);
      break;
    case ActionKind::kInForce:
      driver.in_force = action.content;
      break;
    case ActionKind::kRolledBack: {
      driver.rolled_back = action.content;
      driver.rolled_back_reason =
          driver.start_failure.empty() ? driver.last_end : driver.start_failure;
      DriverEvent event = DriverEvent::Of(DriverEventKind::kRolledBack);
      event.content = action.content;
      event.good_content = driver.lifecycle->good_content();
      event.text = driver.rolled_back_reason;
      Report(driver, std::move(event));
      break;
    }
    case ActionKind::kGood: {
      DriverEvent event = DriverEvent::Of(DriverEventKind::kContentGood);
      event.content = action.content;
      Report(driver, std::move(event));
      driver.content.DropBefore(action.content);
      driver.content_folders.erase(driver.content_folders.begin(),
                                   driver.content_folders.lower_bound(action.content));
      break;
    }
    case ActionKind::kStoppedNow:
      break;
  }
  if (!status.ok()) Report(driver, DriverEventKind::kLinkFailed, std::string(status.message()));
}

// The lifecycle may be at the next generation already: the event is about the one that ended.
void Supervisor::ReportEnd(const Driver& driver, const ActionItem& action) {
  DriverEvent event = DriverEvent::Of(DriverEventKind::kEnded);
  if (action.end == BH_END_STOPPED) event.level = DriverEvent::Level::kInfo;
  event.generation = action.generation;
  event.pid = driver.last_pid;
  event.end = action.end;
  event.text = driver.last_end;
  Report(driver, std::move(event));
}

void Supervisor::SpawnHost(Driver& driver, const ActionItem& action) {
  driver.start_failure.clear();
  driver.error_tail.clear();
  absl::StatusOr<std::pair<ControlSocket, ControlSocket>> sockets = ControlSocket::Pair();
  absl::Status status = sockets.status();
  if (status.ok()) {
    driver.control = std::move(sockets->first);
    absl::StatusOr<ChildProcess> child =
        options_.spawner->Spawn(sockets->second.Release(), driver.config.manifest.MemoryBytesMax(),
                                [this](pid_t pid) { return options_.link->Exclude(pid); });
    status = child.status();
    if (child.ok()) driver.child.emplace(*std::move(child));
  }
  if (status.ok()) return;
  driver.last_end = absl::StrCat("can't start a host: ", status.message());
  Report(driver, DriverEventKind::kSpawnFailed, std::string(status.message()));
  Step(driver, {.kind = EventKind::kSpawnFailed,
                .generation = action.generation,
                .chance = options_.chance()});
}

absl::Status Supervisor::AttachHost(Driver& driver, const ActionItem& action) {
  absl::StatusOr<ChannelDescriptors> regions = options_.link->Descriptors(driver.channel);
  if (!regions.ok()) return regions.status();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  driver.shim_files.reset(ends[0]);
  const UniqueFd host_files(ends[1]);
  absl::StatusOr<LifeLine> life_line = LifeLine::Create();
  if (!life_line.ok()) return life_line.status();
  driver.life_line.emplace(*std::move(life_line));
  const Manifest& manifest = driver.config.manifest;
  AttachFields fields;
  fields.generation = action.generation;
  fields.reason = action.reason;
  fields.geometry = driver.config.channel.geometry;
  fields.workers = manifest.workers;
  fields.driver_name = manifest.name;
  fields.driver_path = manifest.LibraryPath();
  fields.content_path = driver.content.Path(action.content);
  fields.content_version = action.content;
  fields.options = OptionsOf(driver.config);
  fields.callbacks = manifest.callbacks;
  fields.notifications = manifest.notifications;
  fields.checkpoint_bytes = manifest.checkpoint_bytes;
  fields.spin_ns = driver.config.channel.spin_ns;
  fields.sandbox = options_.sandbox;
  // A place for the checkpoint even without one: a message has its number of descriptors.
  const int checkpoint =
      manifest.checkpoint_bytes != 0 ? driver.checkpoint.fd().get() : host_files.get();
  std::vector<int> descriptors = {regions->call_region.get(), regions->reply_region.get(),
                                  host_files.get(), checkpoint, driver.life_line->fd().get()};
  if (regions->notification_region.valid()) {
    descriptors.push_back(regions->notification_region.get());
  }
  return driver.Tell(MakeAttach(fields), descriptors);
}

}  // namespace bulkhead
