// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/supervisor/content_store.h"
#include "ipc/check.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "ipc/shared_memory.h"

namespace bulkhead {
namespace {

using Level = SupervisorEvent::Level;

constexpr size_t kErrorTailBytesMax = 4096;
constexpr size_t kRecoverySamplesMax = 100'000;
constexpr int kMessagesAtOnceMax = 256;

const char* EndName(EndCause end) {
  constexpr const char* kNames[] = {"stopped", "crashed", "hung", "killed", "hostile"};
  return kNames[static_cast<int>(end)];
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

}  // namespace

struct Supervisor::Driver {
  Driver(const DriverConfig& config_in, const std::string& folder)
      : config(config_in), content(folder) {}

  const DriverConfig config;
  ContentStore content;
  std::mutex content_mutex;  // copies are made outside mutex_
  ChannelId channel = 0;
  SharedMemory checkpoint;
  std::unique_ptr<Lifecycle> lifecycle;
  uint64_t timer_ns = 0;

  // the present host
  std::optional<ChildProcess> child;
  ControlSocket control;
  UniqueFd shim_files;  // until BeginGeneration takes it
  uint64_t callbacks = 0;
  uint64_t descriptors = 0;
  std::string version;
  std::string start_failure;
  std::string error_tail;
  uint64_t ping_ns = 0;   // when the last one was sent
  uint64_t heard_ns = 0;  // when the host last said anything

  // the past
  uint64_t death_seen_ns = 0;  // of a generation that served, until the next does
  std::vector<RecoverySample> recoveries;
  std::string last_end;
  std::string quarantine_reason;
  uint64_t in_force = 0;
  uint64_t rolled_back = 0;
  std::string rolled_back_reason;
};

Supervisor::Supervisor(Options options)
    : options_(std::move(options)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  BULKHEAD_CHECK(options_.link != nullptr && options_.spawner != nullptr && wake_.valid());
  BULKHEAD_CHECK(options_.now_ns && options_.chance);
}

Supervisor::~Supervisor() { Stop(); }

absl::Status Supervisor::AddDriver(const DriverConfig& config) {
  BULKHEAD_CHECK(!thread_.joinable());
  if (Find(config.manifest.name) != nullptr) {
    return absl::AlreadyExistsError(
        absl::StrCat("driver '", config.manifest.name, "' is given twice"));
  }
  auto driver = std::make_unique<Driver>(
      config, absl::StrCat(options_.run_folder, "/content-", config.manifest.name));
  uint64_t content = 0;
  if (!config.content_folder.empty()) {
    absl::StatusOr<uint64_t> version = driver->content.Add(config.content_folder);
    if (!version.ok()) return version.status();
    content = *version;
  } else if (config.manifest.content_required) {
    return absl::InvalidArgumentError(absl::StrCat(
        "driver '", config.manifest.name, "' needs content: give its folder with --rules"));
  }
  if (config.manifest.checkpoint_bytes != 0) {
    absl::StatusOr<SharedMemory> memory =
        SharedMemory::Create("bulkhead-checkpoint", config.manifest.checkpoint_bytes);
    if (!memory.ok()) return memory.status();
    for (const absl::Status& status : {memory->SealAgainstResize(), memory->SealForGood()}) {
      if (!status.ok()) return status;
    }
    driver->checkpoint = *std::move(memory);
  }
  ChannelSpec spec = config.channel;
  spec.driver = config.manifest.name;
  absl::StatusOr<ChannelId> channel = options_.link->AddChannel(spec);
  if (!channel.ok()) return channel.status();
  driver->channel = *channel;
  driver->lifecycle = std::make_unique<Lifecycle>(options_.limits, content);
  drivers_.push_back(std::move(driver));
  return absl::OkStatus();
}

absl::Status Supervisor::Start() {
  BULKHEAD_CHECK(!thread_.joinable());
  started_ns_ = options_.now_ns();
  options_.link->SetObserver(this);
  for (const auto& driver : drivers_) {
    Post([this, &driver = *driver] { Step(driver, {.kind = EventKind::kStart}); });
  }
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void Supervisor::Stop() {
  if (!thread_.joinable()) return;
  Post([this] {
    stopping_ = true;
    for (const auto& driver : drivers_) Step(*driver, {.kind = EventKind::kStop});
  });
  thread_.join();
  options_.link->SetObserver(nullptr);
}

// ---- The thread

void Supervisor::Post(std::function<void()> command) {
  {
    const std::lock_guard<std::mutex> lock(commands_mutex_);
    commands_.push_back(std::move(command));
  }
  const uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof(one));
}

void Supervisor::RunCommands() {
  uint64_t count;
  (void)!read(wake_.get(), &count, sizeof(count));
  std::deque<std::function<void()>> commands;
  {
    const std::lock_guard<std::mutex> lock(commands_mutex_);
    commands.swap(commands_);
  }
  for (const auto& command : commands) command();
}

uint64_t Supervisor::NextTimer() const {
  uint64_t next_ns = kForeverNs;
  for (const auto& driver : drivers_) {
    if (driver->timer_ns != 0) next_ns = std::min(next_ns, driver->timer_ns);
    if (driver->lifecycle->state() == State::kServing) {
      next_ns = std::min(next_ns, driver->ping_ns + options_.heartbeat_every_ns);
    }
  }
  return next_ns;
}

void Supervisor::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    RunCommands();
    const uint64_t now_ns = options_.now_ns();
    for (const auto& driver : drivers_) {
      if (driver->timer_ns != 0 && now_ns >= driver->timer_ns) {
        driver->timer_ns = 0;
        Step(*driver, {.kind = EventKind::kTimer});
      }
      Heartbeat(*driver, now_ns);
    }
    changed_.notify_all();
    if (stopping_ && std::all_of(drivers_.begin(), drivers_.end(), [](const auto& driver) {
          return driver->lifecycle->state() == State::kStopped;
        })) {
      return;
    }
    std::vector<pollfd> ready = {{wake_.get(), POLLIN, 0}};
    for (const auto& driver : drivers_) {
      if (!driver->child) continue;
      ready.push_back({driver->child->pidfd.get(), POLLIN, 0});
      ready.push_back({driver->control.fd(), POLLIN, 0});
      ready.push_back({driver->child->error_output.get(), POLLIN, 0});
    }
    const uint64_t next_ns = NextTimer();
    timespec left = {};
    if (next_ns != kForeverNs) {
      const uint64_t span_ns = next_ns > now_ns ? next_ns - now_ns : 0;
      left = {static_cast<time_t>(span_ns / kNanosecondsPerSecond),
              static_cast<long>(span_ns % kNanosecondsPerSecond)};
    }
    lock.unlock();
    ppoll(ready.data(), ready.size(), next_ns == kForeverNs ? nullptr : &left, nullptr);
    lock.lock();
    for (const auto& driver : drivers_) Look(*driver);
  }
}

void Supervisor::Look(Driver& driver) {
  if (!driver.child) return;
  ReadErrorOutput(driver);
  ReadControl(driver);  // what it said before it died comes first
  pollfd dead = {driver.child ? driver.child->pidfd.get() : -1, POLLIN, 0};
  if (driver.child && poll(&dead, 1, 0) == 1) OnDeath(driver);
}

void Supervisor::ReadErrorOutput(Driver& driver) {
  std::array<char, 1024> text;
  for (int i = 0; i < 16; ++i) {
    const ssize_t bytes = read(driver.child->error_output.get(), text.data(), text.size());
    if (bytes < 0) return;  // nothing there
    if (bytes == 0) {       // nobody writes any more: not to be polled
      driver.child->error_output.reset();
      return;
    }
    driver.error_tail.append(text.data(), static_cast<size_t>(bytes));
    if (driver.error_tail.size() > kErrorTailBytesMax) {
      driver.error_tail.erase(0, driver.error_tail.size() - kErrorTailBytesMax);
    }
  }
}

void Supervisor::ReadControl(Driver& driver) {
  for (int i = 0; i < kMessagesAtOnceMax && driver.child && driver.control.connected(); ++i) {
    absl::StatusOr<ControlMessage> message = driver.control.Receive(0);
    const uint32_t generation = driver.lifecycle->generation();
    if (absl::IsDeadlineExceeded(message.status())) return;
    if (absl::IsUnavailable(message.status())) {  // it is about to be seen dead
      driver.control.Close();
      return;
    }
    if (!message.ok()) {
      Report(driver, Level::kError, absl::StrCat("says nonsense: ", message.status().message()));
      Step(driver, {.kind = EventKind::kHostile, .generation = generation});
      driver.control.Close();
      return;
    }
    driver.heard_ns = options_.now_ns();
    if (message->as<wire::Hello>() != nullptr) {
      const auto* hello = message->as<wire::Hello>();
      if (hello->abi_version() != BH_ABI_VERSION) {
        driver.start_failure = absl::StrCat("bulkhead-host has channel ABI ", hello->abi_version(),
                                            ", bulkhead has ", BH_ABI_VERSION, ": mixed versions");
        Step(driver, {.kind = EventKind::kHostile, .generation = generation});
        continue;
      }
      Step(driver, {.kind = EventKind::kHello, .generation = generation});
    } else if (const auto* started = message->as<wire::Started>()) {
      if (started->generation() != generation) continue;
      driver.callbacks = started->callbacks() & driver.config.manifest.callbacks;
      driver.descriptors = started->descriptors() & driver.callbacks;
      driver.version = started->driver_version() ? started->driver_version()->str() : "";
      Step(driver, {.kind = EventKind::kStarted, .generation = generation});
    } else if (const auto* failed = message->as<wire::StartFailed>()) {
      driver.start_failure = failed->reason()->str();
      Step(driver, {.kind = EventKind::kStartFailed, .generation = generation});
    } else if (const auto* line = message->as<wire::LogLine>()) {
      const Level level = line->level() == wire::LogLevel::Error     ? Level::kError
                          : line->level() == wire::LogLevel::Warning ? Level::kWarning
                                                                     : Level::kInfo;
      Report(driver, level, absl::StrCat("says: ", line->text()->str()));
    }
  }
}

void Supervisor::OnDeath(Driver& driver) {
  const uint64_t now_ns = options_.now_ns();
  if (driver.lifecycle->state() == State::kServing) driver.death_seen_ns = now_ns;
  const pid_t pid = driver.child->pid;
  const ChildExit exit = options_.spawner->Reap(*driver.child);
  (void)options_.link->Include(pid);
  if (driver.child->error_output.valid()) ReadErrorOutput(driver);
  driver.child.reset();
  driver.control.Close();
  driver.shim_files.reset();
  driver.last_end = exit.text;
  Step(driver, {.kind = EventKind::kExited,
                .generation = driver.lifecycle->generation(),
                .end = exit.end,
                .chance = options_.chance()});
}

void Supervisor::Heartbeat(Driver& driver, uint64_t now_ns) {
  if (driver.lifecycle->state() != State::kServing) return;
  if (now_ns < driver.ping_ns + options_.heartbeat_every_ns) return;
  if (now_ns - driver.heard_ns > options_.heartbeat_missed_ns) {
    Report(driver, Level::kError, "does not answer its supervisor");
    Step(driver, {.kind = EventKind::kHung, .generation = driver.lifecycle->generation()});
    return;
  }
  driver.ping_ns = now_ns;
  // Without a wait: a host that does not read has missed its heartbeat soon enough.
  (void)driver.control.Send(MakePing(now_ns), {}, 0);
}

// ---- What the lifecycle wants done

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
      if (!status.ok() && driver.child) options_.spawner->Kill(*driver.child);
      break;
    case ActionKind::kBegin: {
      status =
          link.BeginGeneration(driver.channel, action.generation, driver.callbacks,
                               driver.descriptors, action.content, std::move(driver.shim_files));
      const uint64_t now_ns = options_.now_ns();
      driver.heard_ns = driver.ping_ns = now_ns;
      driver.quarantine_reason.clear();
      if (driver.death_seen_ns != 0 && driver.recoveries.size() < kRecoverySamplesMax) {
        driver.recoveries.push_back({driver.death_seen_ns, now_ns});
      }
      driver.death_seen_ns = 0;
      Report(driver, Level::kInfo, "serves");
      if (!status.ok() && driver.child) options_.spawner->Kill(*driver.child);
      break;
    }
    case ActionKind::kEnd:
      status = link.EndGeneration(driver.channel, action.generation, action.end);
      if (absl::IsNotFound(status)) status = absl::OkStatus();  // its channel went before it
      Report(driver, action.end == EndCause::kStopped ? Level::kInfo : Level::kWarning,
             absl::StrCat(EndName(action.end), ": ", driver.last_end));
      break;
    case ActionKind::kDrain:
      status = link.SetState(driver.channel, /*quarantined=*/false, /*draining=*/true);
      (void)driver.control.Send(MakeDrain(action.generation));
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
      Report(driver, Level::kError,
             absl::StrCat("quarantined: it fell too often; last: ", driver.quarantine_reason));
      break;
    case ActionKind::kInForce:
      driver.in_force = action.content;
      break;
    case ActionKind::kRolledBack: {
      driver.rolled_back = action.content;
      driver.rolled_back_reason =
          driver.start_failure.empty() ? driver.last_end : driver.start_failure;
      Report(driver, Level::kError,
             absl::StrCat("content ", action.content, " failed (", driver.rolled_back_reason,
                          "): back to content ", driver.lifecycle->good_content()));
      break;
    }
    case ActionKind::kGood: {
      Report(driver, Level::kInfo,
             absl::StrCat("content ", action.content, " is known to be good"));
      driver.content.DropBefore(action.content);
      break;
    }
    case ActionKind::kStoppedNow:
      break;
  }
  if (!status.ok()) Report(driver, Level::kError, Text(status));
}

void Supervisor::SpawnHost(Driver& driver, const ActionItem& action) {
  driver.start_failure.clear();
  driver.error_tail.clear();
  absl::StatusOr<std::pair<ControlSocket, ControlSocket>> sockets = ControlSocket::Pair();
  absl::Status status = sockets.status();
  if (status.ok()) {
    driver.control = std::move(sockets->first);
    absl::StatusOr<ChildProcess> child = options_.spawner->Spawn(
        sockets->second.Release(), [this](pid_t pid) { return options_.link->Exclude(pid); });
    status = child.status();
    if (child.ok()) driver.child.emplace(*std::move(child));
  }
  if (status.ok()) return;
  driver.last_end = absl::StrCat("can't start a host: ", status.message());
  Report(driver, Level::kError, driver.last_end);
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
  const Manifest& manifest = driver.config.manifest;
  AttachFields fields;
  fields.generation = action.generation;
  fields.reason = static_cast<wire::StartReason>(action.reason);
  fields.geometry = driver.config.channel.geometry;
  fields.workers = manifest.workers;
  fields.driver_name = manifest.name;
  fields.driver_path = manifest.LibraryPath();
  fields.content_path = driver.content.Path(action.content);
  fields.content_version = action.content;
  fields.options = manifest.options;
  if (!driver.config.options.empty()) {
    fields.options += (fields.options.empty() ? "" : " ") + driver.config.options;
  }
  fields.callbacks = manifest.callbacks;
  fields.checkpoint_bytes = manifest.checkpoint_bytes;
  fields.spin_ns = driver.config.channel.spin_ns;
  fields.sandbox = options_.sandbox;
  // A place for the checkpoint even without one: a message has its number of descriptors.
  const int checkpoint =
      manifest.checkpoint_bytes != 0 ? driver.checkpoint.fd().get() : host_files.get();
  return driver.control.Send(
      MakeAttach(fields),
      {regions->call_region.get(), regions->reply_region.get(), host_files.get(), checkpoint});
}

void Supervisor::Report(const Driver& driver, SupervisorEvent::Level level, std::string text) {
  if (!options_.on_event) return;
  options_.on_event({.level = level,
                     .driver = driver.config.manifest.name,
                     .generation = driver.lifecycle->generation(),
                     .pid = driver.child ? driver.child->pid : -1,
                     .text = std::move(text)});
}

// ---- What the shim sees

void Supervisor::OnOverdue(ChannelId channel, uint32_t generation, uint64_t) {
  Post([this, channel, generation] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr || driver->lifecycle->generation() != generation) return;
    Report(*driver, Level::kError, "missed a call's deadline");
    if (driver->lifecycle->state() == State::kServing) driver->death_seen_ns = options_.now_ns();
    Step(*driver, {.kind = EventKind::kHung, .generation = generation});
  });
}

void Supervisor::OnViolation(ChannelId channel, uint32_t generation, uint32_t violation) {
  Post([this, channel, generation, violation] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr || driver->lifecycle->generation() != generation) return;
    Report(*driver, Level::kError, absl::StrCat("broke the protocol (violation ", violation, ")"));
    Step(*driver, {.kind = EventKind::kHostile, .generation = generation});
  });
}

void Supervisor::OnPoison(ChannelId channel, uint32_t, uint64_t call_id) {
  Post([this, channel, call_id] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr) return;
    Report(*driver, Level::kWarning,
           absl::StrCat("call ", call_id, " is quarantined: it brought too many hosts down"));
  });
}

void Supervisor::OnTakeover(uint32_t incarnation, uint32_t adopted_calls) {
  Post([this, incarnation, adopted_calls] {
    shim_incarnation_ = incarnation;
    if (!options_.on_event) return;
    options_.on_event({.level = Level::kWarning,
                       .text = absl::StrCat("shim incarnation ", incarnation, " took over ",
                                            adopted_calls, " calls")});
  });
}

void Supervisor::OnShimLost() {
  Post([this] {
    if (options_.on_event) {
      options_.on_event(
          {.level = Level::kError, .text = "the shim is gone; its hosts start afresh"});
    }
    for (const auto& driver : drivers_) {
      ChannelSpec spec = driver->config.channel;
      spec.driver = driver->config.manifest.name;
      if (absl::StatusOr<ChannelId> channel = options_.link->AddChannel(spec); channel.ok()) {
        driver->channel = *channel;
      }
      Step(*driver, {.kind = EventKind::kRestart});
    }
  });
}

// ---- For everybody

Supervisor::Driver* Supervisor::Find(const std::string& name) {
  for (const auto& driver : drivers_) {
    if (driver->config.manifest.name == name) return driver.get();
  }
  return nullptr;
}

Supervisor::Driver* Supervisor::FindChannel(ChannelId channel) {
  for (const auto& driver : drivers_) {
    if (driver->channel == channel) return driver.get();
  }
  return nullptr;
}

absl::StatusOr<Supervisor::Driver*> Supervisor::Named(const std::string& name) {
  if (Driver* driver = Find(name)) return driver;
  return absl::NotFoundError(absl::StrCat("no driver '", name, "' runs here"));
}

absl::Status Supervisor::WaitUntilServing(const std::string& name, uint64_t until_ns) {
  absl::StatusOr<Driver*> driver = Named(name);
  if (!driver.ok()) return driver.status();
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const State state = (*driver)->lifecycle->state();
    if (state == State::kServing) return absl::OkStatus();
    if (state == State::kQuarantined) {
      return absl::FailedPreconditionError(
          absl::StrCat("driver '", name, "' does not start: ", (*driver)->quarantine_reason));
    }
    const uint64_t now_ns = MonotonicNowNs();
    if (now_ns >= until_ns) {
      return absl::DeadlineExceededError(
          absl::StrCat("driver '", name, "' is not there in time: it is ", StateName(state)));
    }
    changed_.wait_for(lock, std::chrono::nanoseconds(until_ns - now_ns));
  }
}

absl::StatusOr<uint64_t> Supervisor::SetContent(const std::string& name, const std::string& folder,
                                                uint64_t until_ns) {
  absl::StatusOr<Driver*> found = Named(name);
  if (!found.ok()) return found.status();
  Driver& driver = **found;
  absl::StatusOr<uint64_t> version;
  {
    const std::lock_guard<std::mutex> lock(driver.content_mutex);
    version = driver.content.Add(folder);
  }
  if (!version.ok()) return version;
  Post([this, &driver, content = *version] {
    Step(driver, {.kind = EventKind::kContent, .content = content});
  });
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    if (driver.in_force == *version) return version;
    if (driver.rolled_back == *version) {
      return absl::FailedPreconditionError(
          absl::StrCat("not in force: ", driver.rolled_back_reason, "; content ",
                       driver.lifecycle->good_content(), " is wanted again"));
    }
    const uint64_t now_ns = MonotonicNowNs();
    if (now_ns >= until_ns) {
      return absl::DeadlineExceededError(absl::StrCat("content ", *version,
                                                      " does not serve yet: '", name, "' is ",
                                                      StateName(driver.lifecycle->state())));
    }
    changed_.wait_for(lock, std::chrono::nanoseconds(until_ns - now_ns));
  }
}

absl::Status Supervisor::Release(const std::string& name) {
  absl::StatusOr<Driver*> driver = Named(name);
  if (!driver.ok()) return driver.status();
  Post([this, driver = *driver] { Step(*driver, {.kind = EventKind::kRelease}); });
  return absl::OkStatus();
}

StatusFields Supervisor::Status() {
  const std::lock_guard<std::mutex> lock(mutex_);
  StatusFields status;
  status.pid = static_cast<uint32_t>(getpid());
  status.attachment = options_.attachment;
  const uint64_t now_ns = options_.now_ns();
  status.uptime_ms = (now_ns - started_ns_) / kNanosecondsPerMillisecond;
  status.shim_incarnation = shim_incarnation_;
  for (const auto& driver : drivers_) {
    const Lifecycle& lifecycle = *driver->lifecycle;
    DriverStatusFields fields;
    fields.name = driver->config.manifest.name;
    fields.version = driver->config.manifest.version;
    fields.state = StateName(lifecycle.state());
    fields.generation = lifecycle.generation();
    fields.pid = driver->child ? static_cast<uint32_t>(driver->child->pid) : 0;
    fields.altitude = driver->config.channel.altitude;
    fields.content_version = lifecycle.running_content();
    fields.content_path = driver->config.content_folder;
    fields.last_known_good = lifecycle.good_content();
    fields.restarts = lifecycle.restarts();
    fields.start_failures = lifecycle.start_failures();
    fields.last_end = driver->last_end;
    if (lifecycle.next_start_ns() > now_ns) {
      fields.next_start_ms = (lifecycle.next_start_ns() - now_ns) / kNanosecondsPerMillisecond;
    }
    if (absl::StatusOr<ChannelStatistics> statistics = options_.link->Statistics(driver->channel);
        statistics.ok()) {
      fields.statistics = *statistics;
    }
    status.drivers.push_back(std::move(fields));
  }
  return status;
}

pid_t Supervisor::HostPid(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Driver* driver = Find(name);
  return driver != nullptr && driver->child ? driver->child->pid : -1;
}

std::vector<RecoverySample> Supervisor::Recoveries(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Driver* driver = Find(name);
  return driver != nullptr ? driver->recoveries : std::vector<RecoverySample>();
}

}  // namespace bulkhead
