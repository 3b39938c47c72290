// SPDX-License-Identifier: Apache-2.0
//
// The supervisor's loop, and what other threads ask of it.
#include "host/supervisor/supervisor.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/supervisor/content_copy.h"
#include "host/supervisor/outcome.h"
#include "ipc/check.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

using Kind = DriverEventKind;

// Of a link that promises to answer within a second.
constexpr uint64_t kStatisticsWithinNs = kNanosecondsPerSecond * 3 / 4;
constexpr uint64_t kUsersApart = 31;  // the first ids of instances with neighbouring process ids
constexpr uint64_t kLinkStopsWithinNs = 2 * kNanosecondsPerSecond;

}  // namespace

Supervisor::Supervisor(Options options)
    : options_(std::move(options)), link_queue_(options_.link, options_.now_ns) {
  BULKHEAD_CHECK(options_.link != nullptr && options_.spawner != nullptr);
  BULKHEAD_CHECK(options_.now_ns && options_.chance);
  surroundings_ = {.spawner = options_.spawner,
                   .store = options_.store,
                   .link = &link_queue_,
                   .inbox = std::make_shared<LoopInbox>(),
                   .now_ns = options_.now_ns,
                   .chance = options_.chance,
                   .on_event = options_.on_event,
                   .limits = options_.limits,
                   .heartbeat = {.every_ns = options_.heartbeat_every_ns,
                                 .missed_ns = options_.heartbeat_missed_ns},
                   .sandbox = options_.sandbox,
                   .sandbox_required = options_.sandbox_required};
}

Supervisor::~Supervisor() { Stop(); }

absl::Status Supervisor::AddDriver(const DriverConfig& config) {
  BULKHEAD_CHECK(!thread_.joinable());
  const std::string& name = config.manifest.name;
  if (IndexOf(name).ok()) {
    return absl::AlreadyExistsError(absl::StrCat("driver '", name, "' is given twice"));
  }
  HostNeeds needs = {.paths = config.manifest.reads,
                     .writable = config.manifest.writes,
                     .package = std::filesystem::path(config.manifest.LibraryPath()).parent_path(),
                     .content = config.content_folder};
  needs.paths.push_back(config.manifest.LibraryPath());
  needs.paths.push_back(options_.run_folder + "/");
  const absl::StatusOr<std::optional<HostRecord>> left = Driver::Left(options_.store, name);
  if (!left.ok()) return left.status();
  // Its copies of content are that user's.
  const HostUser user =
      left->has_value()
          ? HostUser{.id = (*left)->user, .lacks = (*left)->user_lacks}
          : ChooseHostUser(static_cast<uint64_t>(getpid()) * kUsersApart, host_users_, needs);
  absl::StatusOr<std::unique_ptr<Driver>> driver =
      Driver::Create(&surroundings_, config, absl::StrCat(options_.run_folder, "/content-", name),
                     user, options_.link.get());
  if (!driver.ok()) return driver.status();
  host_users_.insert(user.id);
  drivers_.push_back(*std::move(driver));
  published_.drivers.emplace_back();
  Publish();
  return absl::OkStatus();
}

absl::Status Supervisor::Start() {
  BULKHEAD_CHECK(!thread_.joinable());
  started_ns_ = options_.now_ns();
  Publish();
  options_.link->SetObserver(this);
  for (const auto& driver : drivers_) {
    surroundings_.inbox->Post([&driver = *driver] { driver.Begin(); });
  }
  thread_ = std::thread([this] { Run(); });
  // A channel may be older than this supervisor, and has counted before. The loop does not wait for
  // it: hosts that are gone on with are supervised first.
  link_queue_.Refresh(MonotonicAfterNs(kStatisticsWithinNs));
  const MutexLock lock(counts_mutex_);
  let_through_.resize(drivers_.size());
  unrecorded_.resize(drivers_.size());
  for (size_t i = 0; i < drivers_.size(); ++i) {
    const bh_statistics counted = link_queue_.ReportOf(drivers_[i]->lane()).statistics;
    let_through_[i].Begin(counted.let_through);
    unrecorded_[i].Begin(counted.unrecorded);
  }
  return absl::OkStatus();
}

void Supervisor::Stop() {
  if (!thread_.joinable()) return;
  surroundings_.inbox->Post([this] {
    published_.stopping = true;
    unpublished_ = true;
    for (const auto& driver : drivers_) driver->Step({.kind = EventKind::kStop});
  });
  thread_.join();
  options_.link->SetObserver(nullptr);
  // The last counts; then the ends that were told to the shim last.
  link_queue_.Refresh(MonotonicAfterNs(kStatisticsWithinNs));
  (void)link_queue_.Stop(MonotonicAfterNs(kLinkStopsWithinNs));
  surroundings_.inbox->Close();
  for (const auto& driver : drivers_) driver->ReapAll();
}

// ---- The loop

void Supervisor::Run() {
  for (;;) {
    surroundings_.inbox->Run();
    const uint64_t now_ns = options_.now_ns();
    for (const auto& driver : drivers_) driver->OnTimers(now_ns);
    Publish();
    if (published_.stopping && std::all_of(drivers_.begin(), drivers_.end(),
                                           [](const auto& driver) { return driver->Stopped(); })) {
      return;
    }
    std::vector<pollfd> ready = {{surroundings_.inbox->fd(), POLLIN, 0}};
    for (const auto& driver : drivers_) driver->AddPollFds(ready);
    const uint64_t next_ns = NextTimer();
    timespec left = {};
    if (next_ns != kForeverNs) {
      const uint64_t span_ns = next_ns > now_ns ? next_ns - now_ns : 0;
      left = {static_cast<time_t>(span_ns / kNanosecondsPerSecond),
              static_cast<long>(span_ns % kNanosecondsPerSecond)};
    }
    ppoll(ready.data(), ready.size(), next_ns == kForeverNs ? nullptr : &left, nullptr);
    for (const auto& driver : drivers_) driver->Look();
  }
}

uint64_t Supervisor::NextTimer() const {
  uint64_t next_ns = kForeverNs;
  for (const auto& driver : drivers_) next_ns = std::min(next_ns, driver->NextTimer());
  return next_ns;
}

void Supervisor::Publish() {
  for (size_t i = 0; i < drivers_.size(); ++i) {
    std::shared_ptr<const DriverSnapshot> snapshot = drivers_[i]->TakeSnapshot();
    if (snapshot == nullptr) continue;
    published_.drivers[i] = std::move(snapshot);
    unpublished_ = true;
  }
  if (std::exchange(unpublished_, false)) {
    board_.Publish(std::make_shared<const Snapshot>(published_));
  }
}

// ---- What the shim sees: any thread

void Supervisor::OnHung(ChannelId channel, uint32_t generation, uint64_t call_id,
                        uint32_t held_ms) {
  surroundings_.inbox->Post([this, channel, generation, call_id, held_ms] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr) return;
    DriverEvent report = DriverEvent::Of(Kind::kDeadlineMissed);
    report.call_id = call_id;
    driver->OnHostFault({.kind = EventKind::kHung,
                         .generation = generation,
                         .hung_ns = held_ms * kNanosecondsPerMillisecond},
                        report);
  });
}

void Supervisor::OnViolation(ChannelId channel, uint32_t generation, uint32_t violation) {
  surroundings_.inbox->Post([this, channel, generation, violation] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr) return;
    DriverEvent report = DriverEvent::Of(Kind::kProtocolBroken);
    report.number = violation;
    driver->OnHostFault({.kind = EventKind::kHostile, .generation = generation}, report);
  });
}

void Supervisor::OnPoison(ChannelId channel, uint32_t generation, uint64_t call_id) {
  surroundings_.inbox->Post([this, channel, generation, call_id] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr) return;
    DriverEvent event = DriverEvent::Of(Kind::kCallQuarantined);
    event.generation = generation;
    event.call_id = call_id;
    driver->Report(std::move(event));
    driver->Step({.kind = EventKind::kPoison, .generation = generation});
  });
}

void Supervisor::OnDenial(ChannelId channel, const bh_denial& denial) {
  auto record = std::make_shared<const bh_denial>(denial);
  surroundings_.inbox->Post([this, channel, record = std::move(record)] {
    Driver* driver = FindChannel(channel);
    if (driver == nullptr) return;
    DriverEvent event = DriverEvent::Of(record->audited != 0 ? Kind::kWouldDeny : Kind::kDenied);
    event.generation = record->generation;
    event.call_id = record->call_id;
    event.text = std::string(record->why, strnlen(record->why, sizeof(record->why)));
    event.denial = record;
    driver->Report(std::move(event));
  });
}

void Supervisor::OnTakeover(uint32_t incarnation, uint32_t adopted_calls) {
  surroundings_.inbox->Post([this, incarnation, adopted_calls] {
    published_.shim_incarnation = incarnation;
    unpublished_ = true;
    if (!options_.on_event) return;
    DriverEvent event = DriverEvent::Of(Kind::kShimReplaced);
    event.number = incarnation;
    event.adopted_calls = adopted_calls;
    options_.on_event(event);
  });
}

void Supervisor::OnShimLost() {
  surroundings_.inbox->Post([this] {
    if (options_.on_event) options_.on_event(DriverEvent::Of(Kind::kShimLost));
    for (const auto& driver : drivers_) driver->OnShimLost();
  });
}

Driver* Supervisor::FindChannel(ChannelId channel) {
  for (const auto& driver : drivers_) {
    if (driver->channel() == channel) return driver.get();
  }
  return nullptr;
}

// ---- What others ask: any thread

absl::StatusOr<size_t> Supervisor::IndexOf(const std::string& name) const {
  for (size_t i = 0; i < drivers_.size(); ++i) {
    if (drivers_[i]->name() == name) return i;
  }
  return absl::NotFoundError(absl::StrCat("no driver '", name, "' runs here"));
}

absl::Status Supervisor::WaitUntilServing(const std::string& name, uint64_t until_ns) {
  const absl::StatusOr<size_t> index = IndexOf(name);
  if (!index.ok()) return index.status();
  std::shared_ptr<const Snapshot> snapshot = board_.Get();
  for (;;) {
    const DriverSnapshot& driver = *snapshot->drivers[*index];
    if (driver.state == State::kServing) return absl::OkStatus();
    if (driver.state == State::kQuarantined) {
      return absl::FailedPreconditionError(
          absl::StrCat("driver '", name, "' does not start: ", driver.quarantine_reason));
    }
    std::shared_ptr<const Snapshot> next = board_.WaitForNewer(snapshot, until_ns);
    if (next == nullptr) {
      return absl::DeadlineExceededError(absl::StrCat(
          "driver '", name, "' is not there in time: it is ", StateName(driver.state)));
    }
    snapshot = std::move(next);
  }
}

absl::StatusOr<uint64_t> Supervisor::SetContent(const std::string& name, const std::string& folder,
                                                uint64_t until_ns) {
  return TryRelease(name, folder, /*options=*/nullptr, until_ns);
}

absl::StatusOr<uint64_t> Supervisor::SetReleaseIfChanged(const std::string& name,
                                                         const std::string& folder,
                                                         const std::string& options,
                                                         uint64_t until_ns) {
  return TryRelease(name, folder, &options, until_ns);
}

absl::StatusOr<uint64_t> Supervisor::TryRelease(const std::string& name, const std::string& folder,
                                                const std::string* options, uint64_t until_ns) {
  const absl::StatusOr<size_t> index = IndexOf(name);
  if (!index.ok()) return index.status();
  Driver& driver = *drivers_[*index];
  // Of two at a time one would wait for content that the other's has replaced.
  Mutex& alone = driver.content_mutex();
  if (!alone.TryLock()) {
    return absl::AbortedError(
        absl::StrCat("other content of '", name, "' is being put in force; try again later"));
  }
  const auto try_it = [&]() -> absl::StatusOr<uint64_t> {
    if (options == nullptr) {
      absl::StatusOr<std::shared_ptr<const Release>> added =
          driver.AddRelease(folder, driver.options());
      return added.ok() ? PutInForce(*index, **added, until_ns) : added.status();
    }
    absl::StatusOr<uint64_t> version = PutIfChanged(*index, folder, *options, until_ns);
    if (version.ok()) driver.options() = *options;
    return version;
  };
  absl::StatusOr<uint64_t> version = try_it();
  alone.Unlock();
  return version;
}

absl::StatusOr<uint64_t> Supervisor::PutIfChanged(size_t index, const std::string& folder,
                                                  const std::string& options, uint64_t until_ns) {
  Driver& driver = *drivers_[index];
  const std::shared_ptr<const Release> running = board_.Get()->drivers[index]->running;
  // The running one, if only its content may be another.
  const Release* const known = running.get();
  const Release* same = known;
  if (same != nullptr && same->options != driver.OptionsWith(options)) same = nullptr;
  if (folder.empty() && same != nullptr) return same->content_version();
  // None runs at the moment: what it was to run is what it is to run.
  if (folder.empty() && known == nullptr && driver.options() == options) return 0;
  const std::string& source = folder.empty() && known != nullptr ? known->content_source : folder;
  absl::StatusOr<std::shared_ptr<const Release>> added = driver.AddRelease(source, options);
  if (!added.ok()) return added.status();
  // Two private copies: no other process changes them. The new one goes with the next Add.
  if (same != nullptr && SameContent(same->content_folder, (*added)->content_folder)) {
    return same->content_version();
  }
  return PutInForce(index, **added, until_ns);
}

absl::StatusOr<uint64_t> Supervisor::PutInForce(size_t index, const Release& added,
                                                uint64_t until_ns) {
  Driver& driver = *drivers_[index];
  const ReleaseId release = added.id;
  surroundings_.inbox->Post(
      [&driver, release] { driver.Step({.kind = EventKind::kUpdate, .release = release}); });
  std::shared_ptr<const Snapshot> snapshot = board_.Get();
  for (;;) {
    const DriverSnapshot& seen = *snapshot->drivers[index];
    if (seen.in_force == release) return added.content_version();
    if (seen.rolled_back == release) {
      return absl::FailedPreconditionError(absl::StrCat("not in force: ", seen.rolled_back_reason,
                                                        "; content ", seen.rolled_back_to,
                                                        " is wanted again"));
    }
    if (snapshot->stopping) return absl::CancelledError("not in force: the service ends");
    std::shared_ptr<const Snapshot> next = board_.WaitForNewer(snapshot, until_ns);
    if (next == nullptr) {
      return absl::DeadlineExceededError(absl::StrCat("content ", added.content_version(),
                                                      " does not serve yet: '", driver.name(),
                                                      "' is ", StateName(seen.state)));
    }
    snapshot = std::move(next);
  }
}

// Of a driver that serves: the calls that are quarantined as poison.
absl::Status Supervisor::ForgivePoison(Driver& driver, uint64_t until_ns) {
  const auto poison = [&] {
    link_queue_.Refresh(MonotonicAfterNs(kStatisticsWithinNs));
    const bh_statistics statistics = link_queue_.ReportOf(driver.lane()).statistics;
    return statistics.poison_known + statistics.users_quarantined;
  };
  const bool any = poison() != 0;
  surroundings_.inbox->Post([&driver] { driver.Lift(); });  // its budgets are as new
  if (!any) {
    return absl::FailedPreconditionError(
        absl::StrCat("driver '", driver.name(), "' is not quarantined: it serves"));
  }
  while (poison() != 0) {
    if (board_.Get()->stopping) return absl::CancelledError("not released: the service ends");
    if (MonotonicNowNs() > until_ns) {
      return absl::DeadlineExceededError("the shim does not take the release in time");
    }
  }
  return absl::OkStatus();
}

absl::Status Supervisor::SetPolicy(const std::string& name, const bh_policy& policy,
                                   uint64_t until_ns) {
  const absl::StatusOr<size_t> index = IndexOf(name);
  if (!index.ok()) return index.status();
  const auto outcome = std::make_shared<Outcome>();
  surroundings_.inbox->Post([&driver = *drivers_[*index], policy, outcome] {
    driver.SetPolicy(policy, [outcome](absl::Status status) { outcome->Set(std::move(status)); });
  });
  return outcome->Await(until_ns).value_or(absl::DeadlineExceededError(
      absl::StrCat("the shim does not take the policy of '", name, "' in time")));
}

bool Supervisor::Turns(uint64_t until_ns) {
  const auto outcome = std::make_shared<Outcome>();
  surroundings_.inbox->Post([outcome] { outcome->Set(absl::OkStatus()); });
  return outcome->Await(until_ns).has_value();
}

absl::Status Supervisor::LiftQuarantine(const std::string& name, uint64_t until_ns) {
  const absl::StatusOr<size_t> index = IndexOf(name);
  if (!index.ok()) return index.status();
  std::shared_ptr<const Snapshot> snapshot = board_.Get();
  const uint32_t before = snapshot->drivers[*index]->generation;
  if (snapshot->drivers[*index]->state == State::kServing) {
    return ForgivePoison(*drivers_[*index], until_ns);
  }
  surroundings_.inbox->Post([&driver = *drivers_[*index]] { driver.Lift(); });
  for (;;) {
    const DriverSnapshot& driver = *snapshot->drivers[*index];
    if (driver.state == State::kServing) return absl::OkStatus();
    if (driver.state == State::kQuarantined && driver.generation != before) {
      return absl::FailedPreconditionError(
          absl::StrCat("driver '", name, "' does not start: ", driver.quarantine_reason));
    }
    if (snapshot->stopping) return absl::CancelledError("not released: the service ends");
    std::shared_ptr<const Snapshot> next = board_.WaitForNewer(snapshot, until_ns);
    if (next == nullptr) {
      return absl::DeadlineExceededError(
          absl::StrCat("driver '", name, "' does not serve yet: it is ", StateName(driver.state)));
    }
    snapshot = std::move(next);
  }
}

namespace {

ProtectionFields ProtectionOf(const DriverSnapshot& driver, const std::string& last_end) {
  if (driver.state == State::kServing) {
    if (driver.mode != BH_MODE_AUDIT) return {BH_PROTECTION_FULL, {}};
    return {BH_PROTECTION_DEGRADED, {"audit: what it denies is recorded, and goes on"}};
  }
  // The shim makes calls wait only once a driver that was quarantined serves again.
  const bool comes = driver.quarantine_reason.empty() && driver.state != State::kStopped;
  std::string reason = absl::StrCat("it does not serve (", StateName(driver.state));
  if (!last_end.empty()) absl::StrAppend(&reason, "; last: ", last_end);
  absl::StrAppend(&reason, "): ",
                  driver.allows_absent
                      ? (comes ? "calls wait for it until their deadline and are then allowed"
                               : "calls are allowed without it")
                      : "calls that it does not answer are denied");
  const bool open = driver.allows_absent && !comes;
  return {open ? BH_PROTECTION_NONE : BH_PROTECTION_DEGRADED, {std::move(reason)}};
}

}  // namespace

void Supervisor::AddCounts(size_t i, DriverStatusFields& fields) {
  // Under the lock: two readers at a time must not have an older count after a newer one.
  const MutexLock lock(counts_mutex_);
  const LinkQueue::Report report = link_queue_.ReportOf(drivers_[i]->lane());
  fields.statistics = report.statistics;
  fields.statistics_age_ms = report.statistics_age_ns / kNanosecondsPerMillisecond;
  fields.shim_silent_ms = report.silent_ns / kNanosecondsPerMillisecond;
  fields.shim_error = report.error;
  const auto tell = [this, i](Kind kind, uint64_t calls) {
    if (calls == 0) return;
    surroundings_.inbox->Post([driver = drivers_[i].get(), kind, calls] {
      DriverEvent event = DriverEvent::Of(kind);
      event.number = static_cast<uint32_t>(std::min<uint64_t>(calls, UINT32_MAX));
      driver->Report(std::move(event));
    });
  };
  const uint64_t now_ns = options_.now_ns();
  const LetThroughWatch::Seen seen = let_through_[i].Note(report.statistics.let_through, now_ns);
  tell(Kind::kLetThrough, seen.to_tell);
  tell(Kind::kDenialsUnrecorded, unrecorded_[i].Note(report.statistics.unrecorded, now_ns).to_tell);
  if (seen.calls == 0) return;
  fields.protection.level = std::min(fields.protection.level, BH_PROTECTION_DEGRADED);
  fields.protection.reasons.push_back(LetThroughWatch::Text(seen, "calls", "its decision"));
}

StatusFields Supervisor::Status(bool words) {
  link_queue_.Refresh(MonotonicAfterNs(kStatisticsWithinNs));
  const std::shared_ptr<const Snapshot> snapshot = board_.Get();
  const uint64_t now_ns = options_.now_ns();
  StatusFields status;
  status.pid = static_cast<uint32_t>(getpid());
  status.attachment = options_.attachment;
  status.uptime_ms = (now_ns - started_ns_) / kNanosecondsPerMillisecond;
  status.shim_incarnation = snapshot->shim_incarnation;
  for (size_t i = 0; i < snapshot->drivers.size(); ++i) {
    const DriverSnapshot& driver = *snapshot->drivers[i];
    DriverStatusFields fields;
    fields.name = driver.name;
    fields.version = driver.version;
    fields.state = StateName(driver.state);
    fields.generation = driver.generation;
    fields.pid = driver.pid > 0 ? static_cast<uint32_t>(driver.pid) : 0;
    fields.altitude = driver.altitude;
    if (driver.running != nullptr) {
      fields.content_version = driver.running->content_version();
      fields.content_path = driver.running->content_source;
    }
    fields.last_known_good = driver.good_content;
    fields.content_loading = driver.loading_content;
    fields.restarts = driver.restarts;
    fields.start_failures = driver.start_failures;
    fields.last_end = words ? driver.last_end : driver.last_exit;
    fields.sandbox_layers = driver.sandbox.layers;
    fields.sandbox_lacks = driver.sandbox.lacks;
    fields.sandbox_us = driver.sandbox.spent_us;
    fields.mode = driver.mode;
    fields.protection = ProtectionOf(driver, fields.last_end);
    if (driver.next_start_ns > now_ns) {
      fields.next_start_ms = (driver.next_start_ns - now_ns) / kNanosecondsPerMillisecond;
    }
    AddCounts(i, fields);
    status.drivers.push_back(std::move(fields));
  }
  return status;
}

bh_callback_set Supervisor::AskedAbout() const {
  bh_callback_set all = bh_set_none();
  const std::shared_ptr<const Snapshot> snapshot = board_.Get();
  for (const auto& driver : snapshot->drivers) bh_set_join(&all, &driver->callbacks);
  return all;
}

bh_callback_set Supervisor::EnforcedAbout() const {
  bh_callback_set all = bh_set_none();
  const std::shared_ptr<const Snapshot> snapshot = board_.Get();
  for (const auto& driver : snapshot->drivers) {
    if (driver->mode != BH_MODE_AUDIT) bh_set_join(&all, &driver->callbacks);
  }
  return all;
}

pid_t Supervisor::HostPid(const std::string& name) const {
  const absl::StatusOr<size_t> index = IndexOf(name);
  const std::shared_ptr<const Snapshot> snapshot = board_.Get();
  if (!index.ok() || *index >= snapshot->drivers.size()) return -1;
  return snapshot->drivers[*index]->pid;
}

std::vector<RecoverySample> Supervisor::Recoveries(const std::string& name) const {
  const absl::StatusOr<size_t> index = IndexOf(name);
  return index.ok() ? drivers_[*index]->recoveries().All() : std::vector<RecoverySample>();
}

}  // namespace bulkhead
