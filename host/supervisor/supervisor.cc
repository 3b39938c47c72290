// SPDX-License-Identifier: Apache-2.0
//
// What others ask of a supervisor, from whatever thread. The thread's own side stands in
// supervisor_loop.cc (what it reads) and supervisor_actions.cc (what the lifecycle wants done).
#include "host/supervisor/supervisor.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/supervisor/supervisor_driver.h"
#include "ipc/check.h"
#include "ipc/monotonic.h"

namespace bulkhead {

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
  if (const std::string options = OptionsOf(config); options.size() > kControlTextBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "driver '", config.manifest.name, "': its options and yours have ", options.size(),
        " bytes together; a host is told at most ", kControlTextBytesMax));
  }
  auto driver = std::make_unique<Driver>(
      config, absl::StrCat(options_.run_folder, "/content-", config.manifest.name));
  uint64_t content = 0;
  if (!config.content_folder.empty()) {
    absl::StatusOr<uint64_t> version = driver->content.Add(config.content_folder);
    if (!version.ok()) return version.status();
    content = *version;
    driver->content_folders[content] = config.content_folder;
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
  driver->lifecycle = std::make_unique<Lifecycle>(options_.limits, content,
                                                  options_.link->LastGeneration(*channel));
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

void Supervisor::Post(std::function<void()> command) {
  {
    const std::lock_guard<std::mutex> lock(commands_mutex_);
    commands_.push_back(std::move(command));
  }
  const uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof(one));
}

void Supervisor::Report(const Driver& driver, DriverEvent event) {
  if (!options_.on_event) return;
  event.driver = driver.config.manifest.name;
  if (event.generation == 0) event.generation = driver.lifecycle->generation();
  if (event.pid < 0 && driver.child && event.generation == driver.lifecycle->generation()) {
    event.pid = driver.child->pid;
  }
  options_.on_event(event);
}

void Supervisor::Report(const Driver& driver, DriverEventKind kind, std::string text) {
  DriverEvent event = DriverEvent::Of(kind);
  event.text = std::move(text);
  Report(driver, std::move(event));
}

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
  // Of two at a time one would wait for content that the other's has replaced.
  const std::unique_lock<std::mutex> alone(driver.content_mutex, std::try_to_lock);
  if (!alone) {
    return absl::AbortedError(
        absl::StrCat("other content of '", name, "' is being put in force; try again later"));
  }
  absl::StatusOr<uint64_t> version = driver.content.Add(folder);
  if (!version.ok()) return version;
  std::unique_lock<std::mutex> lock(mutex_);
  driver.content_folders[*version] = folder;
  Post([this, &driver, content = *version] {
    Step(driver, {.kind = EventKind::kContent, .content = content});
  });
  for (;;) {
    if (driver.in_force == *version) return version;
    if (driver.rolled_back == *version) {
      return absl::FailedPreconditionError(
          absl::StrCat("not in force: ", driver.rolled_back_reason, "; content ",
                       driver.lifecycle->good_content(), " is wanted again"));
    }
    if (stopping_) return absl::CancelledError("not in force: the service ends");
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
    if (const auto folder = driver->content_folders.find(lifecycle.running_content());
        folder != driver->content_folders.end()) {
      fields.content_path = folder->second;
    }
    fields.last_known_good = lifecycle.good_content();
    fields.restarts = lifecycle.restarts();
    fields.start_failures = lifecycle.start_failures();
    fields.last_end = driver->last_end;
    if (lifecycle.next_start_ns() > now_ns) {
      fields.next_start_ms = (lifecycle.next_start_ns() - now_ns) / kNanosecondsPerMillisecond;
    }
    if (absl::StatusOr<bh_statistics> statistics = options_.link->Statistics(driver->channel);
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
