// SPDX-License-Identifier: Apache-2.0
//
// What a driver's hosts send and how they end, as events of the lifecycle. What the lifecycle wants
// done stands in driver_actions.cc.
#include "host/supervisor/driver.h"

#include <poll.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ipc/abi/names.h"
#include "ipc/check.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

using Kind = DriverEventKind;

constexpr int kMessagesAtOnceMax = 256;

bool HasHeartbeat(State state) {
  return state == State::kAwaitingBegin || state == State::kServing || state == State::kReady;
}

absl::Status CheckOptions(const Manifest& manifest, const std::string& options) {
  if (options.size() <= kControlTextBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("driver '", manifest.name, "': its options and yours have ", options.size(),
                   " bytes together; a host is told at most ", kControlTextBytesMax));
}

}  // namespace

std::string Driver::OptionsOf(const Manifest& manifest, const std::string& options) {
  std::string all = manifest.options;
  if (!options.empty()) all += (all.empty() ? "" : " ") + options;
  return all;
}

absl::StatusOr<std::shared_ptr<const Release>> Driver::AddRelease(const std::string& content,
                                                                  const std::string& options) {
  if (absl::Status status = CheckOptions(config_.manifest, OptionsWith(options)); !status.ok()) {
    return status;
  }
  return releases_.Add(config_.manifest, content, OptionsWith(options));
}

absl::StatusOr<std::unique_ptr<Driver>> Driver::Create(const DriverSurroundings* surroundings,
                                                       const DriverConfig& config,
                                                       const std::string& folder,
                                                       const HostUser& user, ShimLink* link) {
  const Manifest& manifest = config.manifest;
  if (absl::Status status = CheckOptions(manifest, OptionsOf(manifest, config.options));
      !status.ok()) {
    return status;
  }
  if (config.content_folder.empty() && manifest.content_required) {
    return absl::InvalidArgumentError(
        absl::StrCat("driver '", manifest.name, "' needs content: give its folder with --rules"));
  }
  std::unique_ptr<Driver> driver(new Driver(surroundings, config, folder, user));
  driver->package_ = PackageOf(manifest);
  const absl::StatusOr<std::optional<HostRecord>> left = Left(surroundings->store, manifest.name);
  if (!left.ok()) return left.status();
  absl::Status status = left->has_value() ? driver->GoOn(**left, link) : driver->MakeChannel(link);
  if (!status.ok()) return status;
  driver->Keep();
  return driver;
}

absl::Status Driver::AddFirstRelease(ReleaseId* release) {
  absl::StatusOr<std::shared_ptr<const Release>> added =
      AddRelease(config_.content_folder, config_.options);
  if (added.ok()) *release = (*added)->id;
  return added.status();
}

LifecycleLimits Driver::Limits() const {
  LifecycleLimits limits = around_.limits;
  limits.started_within_ns = config_.manifest.start_within_s * kNanosecondsPerSecond;
  limits.beside = config_.manifest.checkpoint_bytes == 0;  // a checkpoint has one owner
  return limits;
}

absl::Status Driver::MakeCheckpoint() {
  if (config_.manifest.checkpoint_bytes == 0) return absl::OkStatus();
  absl::StatusOr<SharedMemory> memory =
      SharedMemory::Create("bulkhead-checkpoint", config_.manifest.checkpoint_bytes);
  if (!memory.ok()) return memory.status();
  for (const absl::Status& status : {memory->SealAgainstResize(), memory->SealForGood()}) {
    if (!status.ok()) return status;
  }
  checkpoint_ = *std::move(memory);
  return absl::OkStatus();
}

absl::Status Driver::MakeChannel(ShimLink* link) {
  ReleaseId release = 0;
  if (absl::Status status = AddFirstRelease(&release); !status.ok()) return status;
  if (absl::Status status = MakeCheckpoint(); !status.ok()) return status;
  ChannelSpec spec = config_.channel;
  spec.driver = name();
  absl::StatusOr<ChannelId> channel = link->AddChannel(spec);
  if (!channel.ok()) return channel.status();
  channel_ = *channel;
  lane_ = around_.link->AddLane(channel_);
  lifecycle_ = std::make_unique<Lifecycle>(Limits(), release, link->LastGeneration(channel_));
  return absl::OkStatus();
}

HostSession* Driver::Find(Role role, uint32_t generation) {
  HostSession* session = SessionOf(role).get();
  return session != nullptr && session->generation() == generation ? session : nullptr;
}

void Driver::Step(Event event) {
  changed_ = true;
  const std::vector<ActionItem> actions = lifecycle_->Step(event, around_.now_ns());
  for (const ActionItem& action : actions) Perform(action);
  Keep();
  releases_.DropUnless([this](ReleaseId release) { return lifecycle_->Needs(release); });
}

// ---- Time

// The life cycle ends it for that; its exit would only tell of a signal.
void Driver::NoteLateStart(Role role) {
  const State state = lifecycle_->state(role);
  if (state == State::kAwaitingHello) {
    FailureOf(role).start = "its process did not come up";
  } else if (state == State::kAwaitingStarted) {
    FailureOf(role).start =
        absl::StrCat("it did not start within ", config_.manifest.start_within_s,
                     " s; 'start_within_s' in its manifest says how long that may take");
  }
}

void Driver::OnTimers(uint64_t now_ns) {
  for (const Role role : kRoles) {
    uint64_t& timer_ns = timers_ns_[static_cast<size_t>(role)];
    if (timer_ns != 0 && now_ns >= timer_ns) {
      timer_ns = 0;
      NoteLateStart(role);
      Step({.kind = EventKind::kTimer, .role = role});
    }
    const uint64_t drain_ns = drain_ns_[static_cast<size_t>(role)];
    if (drain_ns != 0 && now_ns >= drain_ns) SendDrain(role, lifecycle_->generation(role));
  }
  if (serve_again_ns_ != 0 && now_ns >= serve_again_ns_) AskForChannel();
  Heartbeat(now_ns);
  if (link_check_ns_ != 0 && now_ns >= link_check_ns_) CheckLink(now_ns);
}

uint64_t Driver::NextTimer() const {
  uint64_t next_ns = link_check_ns_ != 0 ? link_check_ns_ : kForeverNs;
  if (serve_again_ns_ != 0) next_ns = std::min(next_ns, serve_again_ns_);
  for (const Role role : kRoles) {
    const auto index = static_cast<size_t>(role);
    if (timers_ns_[index] != 0) next_ns = std::min(next_ns, timers_ns_[index]);
    if (drain_ns_[index] != 0) next_ns = std::min(next_ns, drain_ns_[index]);
    if (sessions_[index] != nullptr && HasHeartbeat(lifecycle_->state(role))) {
      next_ns = std::min(next_ns, sessions_[index]->next_heartbeat_ns(around_.heartbeat));
    }
  }
  return next_ns;
}

void Driver::Heartbeat(uint64_t now_ns) {
  for (const Role role : kRoles) {
    HostSession* session = SessionOf(role).get();
    if (session == nullptr || !HasHeartbeat(lifecycle_->state(role))) continue;
    if (session->Heartbeat(now_ns, around_.heartbeat)) continue;
    Report(Kind::kHeartbeatMissed, session);
    Step({.kind = EventKind::kHung,
          .role = role,
          .generation = session->generation(),
          .hung_ns = around_.heartbeat.missed_ns});
  }
}

// ---- What hosts send

void Driver::AddPollFds(std::vector<pollfd>& fds) const {
  for (const auto& session : sessions_) {
    if (session != nullptr) session->AddPollFds(fds);
  }
  for (const Exiting& one : exiting_) {
    if (!one.including) fds.push_back({one.child.pidfd.get(), POLLIN, 0});
  }
}

void Driver::Look() {
  for (const Role role : kRoles) {
    HostSession* session = SessionOf(role).get();
    if (session == nullptr) continue;
    session->ReadErrorOutput();
    ReportErrorLines(*session, /*all=*/false);
    Read(role);  // what it sent before it died comes first
    // By then it may have another role.
    if (session->HasExited()) OnExit(session->role(), session->Exit());
  }
  ReapExiting();
}

// The session is over after an exit only, and no message is one.
void Driver::Read(Role role) {
  HostSession& session = *SessionOf(role);
  // Of each kind: what a host sends without a pause must leave time for the others.
  int messages_left = kMessagesAtOnceMax;
  while (const std::optional<HostMessage> message =
             session.NextMessage(around_.now_ns(), messages_left)) {
    Handle(session, *message);
  }
}

void Driver::Handle(HostSession& session, const HostMessage& message) {
  Event event = {.role = session.role(), .generation = session.generation()};
  if (const auto* hello = std::get_if<HostHello>(&message)) {
    event.kind = EventKind::kHello;
    if (hello->abi_version != BH_ABI_VERSION) {
      FailureOf(session.role()).start =
          absl::StrCat("bulkhead-host has channel ABI ", hello->abi_version, ", bulkhead has ",
                       BH_ABI_VERSION, ": mixed versions");
      event.kind = EventKind::kHostile;
    }
    Step(event);
  } else if (const auto* sandboxed = std::get_if<HostSandboxed>(&message)) {
    OnSandboxed(session, sandboxed->fields);
  } else if (const auto* ready = std::get_if<HostReady>(&message)) {
    OnReady(session, *ready);
  } else if (const auto* started = std::get_if<HostStarted>(&message)) {
    OnStarted(session, *started);
  } else if (const auto* failed = std::get_if<HostStartFailed>(&message)) {
    FailureOf(session.role()).start = releases_.NameSources(failed->reason);
    event.kind = EventKind::kStartFailed;
    Step(event);
  } else if (const auto* line = std::get_if<HostLogLine>(&message)) {
    ReportLine(session, *line);
  } else if (const auto* bad = std::get_if<HostBadMessage>(&message)) {
    OnBadMessage(session, bad->error);
  }
}

void Driver::ReportLine(const HostSession& session, const HostLogLine& line) const {
  ReportDropped(session, line.dropped);
  DriverEvent report = DriverEvent::Of(Kind::kLog);
  report.level = line.level;
  report.generation = session.generation();
  report.pid = session.pid();
  report.time_ns = line.time_ns;
  report.text = releases_.NameSources(line.text);
  Report(std::move(report));
}

void Driver::ReportDropped(const HostSession& session, uint64_t lines) const {
  if (lines == 0) return;
  DriverEvent report = DriverEvent::Of(Kind::kLogDropped);
  report.generation = session.generation();
  report.pid = session.pid();
  report.number = static_cast<uint32_t>(std::min<uint64_t>(lines, UINT32_MAX));
  Report(std::move(report));
}

void Driver::ReportErrorLines(HostSession& session, bool all) const {
  for (const std::string& line : session.TakeErrorLines(all)) {
    Report(Kind::kWrote, &session, releases_.NameSources(line));
  }
}

void Driver::OnBadMessage(HostSession& session, const std::string& error) {
  session.StopListening();
  Report(Kind::kBadMessage, &session, error);
  Step({.kind = EventKind::kHostile, .role = session.role(), .generation = session.generation()});
}

// Only the first: the next may be the driver's.
void Driver::OnSandboxed(HostSession& session, const SandboxFields& sandbox) {
  if (sandbox.generation != session.generation() || session.sandbox.has_value()) return;
  session.sandbox = sandbox_ = sandbox;
  changed_ = true;
  if (sandbox.lacks == lacks_told_) return;
  lacks_told_ = sandbox.lacks;
  if (sandbox.lacks.empty()) return;
  Report(Kind::kSandboxLacks, &session,
         absl::StrCat("level ", bh_sandbox_level_name(bh_sandbox_level_of(sandbox.layers)),
                      "; it lacks ", absl::StrJoin(sandbox.lacks, "; ")));
}

// A host below the required level ends by itself, before it loads the driver; one that goes on is
// no host of ours.
bool Driver::IsLockedIn(HostSession& session) {
  const bh_sandbox_level level =
      session.sandbox ? bh_sandbox_level_of(session.sandbox->layers) : BH_SANDBOX_NONE;
  if (level >= around_.sandbox_required) return true;
  OnBadMessage(session, absl::StrCat("it started at the level ", bh_sandbox_level_name(level),
                                     " of the sandbox, below the one that is required"));
  return false;
}

// The driver of a standby has started.
void Driver::OnReady(HostSession& session, const HostReady& ready) {
  const Role role = session.role();
  if (ready.generation != session.generation()) return;
  if (lifecycle_->state(role) == State::kAwaitingExit) return;  // it is being killed
  if (role == Role::kActive || lifecycle_->state(role) != State::kAwaitingStarted) {
    OnBadMessage(session, "Ready from a host that is not to stand by");
    return;
  }
  if (!IsLockedIn(session)) return;
  session.StartHeartbeat(around_.now_ns());
  Step({.kind = EventKind::kReady, .role = role, .generation = ready.generation});
}

void Driver::OnStarted(HostSession& session, const HostStarted& started) {
  const Role role = session.role();
  const uint32_t generation = session.generation();
  if (started.fields.generation != generation) return;
  if (role != Role::kActive) {
    OnBadMessage(session, "Started from a host that was not told to serve");
    return;
  }
  if (!IsLockedIn(session)) return;
  if (MayBeWrittenTo()) {
    FailureOf(role).start = "the host before it hangs in the kernel and can't be ended yet";
    Step({.kind = EventKind::kStartFailed, .role = role, .generation = generation});
    return;
  }
  const Manifest& manifest = session.release().driver;
  bh_generation_spec& wanted = session.wanted;
  wanted.callbacks = started.fields.callbacks;
  bh_set_and(&wanted.callbacks, &manifest.callbacks);
  asked_ = wanted.callbacks;
  wanted.descriptor_callbacks = started.fields.descriptors;
  bh_set_and(&wanted.descriptor_callbacks, &wanted.callbacks);
  wanted.notifications = started.fields.notifications;
  bh_set_and(&wanted.notifications, &manifest.notifications);
  session.driver_version = started.fields.driver_version;
  const bool watched = session.WatchExit([this, inbox = around_.inbox, role, generation] {
    inbox->Post([this, role, generation] { OnEnding(role, generation); });
  });
  if (!watched) Report(Kind::kExitWatcherMissing, &session);
  session.StartHeartbeat(around_.now_ns());
  Step({.kind = EventKind::kStarted, .role = role, .generation = generation});
}

// A thread that is left of a host before could still write over the answers of the next one.
bool Driver::MayBeWrittenTo() const {
  return std::any_of(exiting_.begin(), exiting_.end(), [this](const Exiting& one) {
    return one.had_channel && !around_.spawner->HasLeft(one.child);
  });
}

// ---- How hosts end

// No thread serves for this host any more. When the kernel says how it ends, that is its end for
// its calls, and the next host can start: giving the memory back may take long.
void Driver::OnEnding(Role role, uint32_t generation) {
  HostSession* session = Find(role, generation);
  if (session == nullptr) return;
  const std::optional<ChildExit> exit = session->Ending();
  if (!exit) return;  // its pidfd will tell
  session->ReadErrorOutput();
  Read(role);       // what it sent before it died comes first
  session->Kill();  // whatever is left of one that only pretends to end
  OnExit(role, *exit);
}

void Driver::OnExit(Role role, const ChildExit& exit) {
  const std::unique_ptr<HostSession> session = std::move(SessionOf(role));
  session->ReadErrorOutput();
  session->StopWatchingExit();
  const auto [unsent, dropped_behind] = session->TakeUnsentLog();
  for (const HostLogLine& line : unsent) ReportLine(*session, line);
  ReportDropped(*session, dropped_behind);
  ReportErrorLines(*session, /*all=*/true);
  if (role == Role::kActive && lifecycle_->state() == State::kServing) {
    death_seen_ns_ = around_.now_ns();
  }
  drain_ns_[static_cast<size_t>(role)] = 0;
  regions_[static_cast<size_t>(role)] = {};
  std::string& end = FailureOf(role).end;
  end = FailureOf(role).exit = exit.text;
  if (const std::string line = session->LastErrorLine(); !line.empty()) {
    absl::StrAppend(&end, "; it last wrote: ", releases_.NameSources(line));
  }
  last_pid_ = session->pid();
  exiting_.push_back({.child = session->TakeChild(), .had_channel = session->has_channel()});
  Step({.kind = EventKind::kExited,
        .role = role,
        .generation = session->generation(),
        .end = exit.end,
        .chance = around_.chance()});
}

void Driver::ReapExiting() {
  for (Exiting& one : exiting_) {
    pollfd exited = {one.child.pidfd.get(), POLLIN, 0};
    if (one.including || poll(&exited, 1, 0) != 1) continue;
    one.including = true;
    const pid_t pid = one.child.pid;
    Submit([this, inbox = around_.inbox, pid](ShimLink& link, ChannelId&) {
      (void)link.Include(pid);
      inbox->Post([this, pid] {
        const auto found =
            std::find_if(exiting_.begin(), exiting_.end(),
                         [pid](const Exiting& exiting) { return exiting.child.pid == pid; });
        BULKHEAD_CHECK(found != exiting_.end());
        (void)around_.spawner->Reap(found->child);
        if (around_.store != nullptr) around_.store->Remove(KeptHostName(pid));
        exiting_.erase(found);
      });
    });
  }
}

bool Driver::Stopped() const {
  return lifecycle_->Stopped() && std::all_of(exiting_.begin(), exiting_.end(),
                                              [](const Exiting& one) { return one.including; });
}

void Driver::ReapAll() {
  for (Exiting& one : exiting_) (void)around_.spawner->Reap(one.child);
  exiting_.clear();
}

// ---- What the shim sees

void Driver::OnHostFault(const Event& fault, const DriverEvent& report) {
  if (lifecycle_->generation() != fault.generation) return;
  DriverEvent event = report;
  event.generation = fault.generation;
  Report(std::move(event));
  if (fault.kind == EventKind::kHung && lifecycle_->state() == State::kServing) {
    death_seen_ns_ = around_.now_ns();
  }
  Step(fault);
}

void Driver::Lift() {
  const State state = lifecycle_->state();
  if (state == State::kServing || !lifecycle_->HasHost(Role::kActive)) {  // else a drain is undone
    SubmitState(/*quarantined=*/false, /*draining=*/false);
  }
  Step({.kind = EventKind::kLift});
}

// ---- What others see

void Driver::Report(DriverEvent event) const {
  if (!around_.on_event) return;
  event.driver = name();
  const auto& active = sessions_[static_cast<size_t>(Role::kActive)];
  if (event.pid < 0 && active != nullptr && active->generation() == event.generation) {
    event.pid = active->pid();
  }
  around_.on_event(event);
}

void Driver::Report(DriverEventKind kind, const HostSession* session, std::string text) const {
  DriverEvent event = DriverEvent::Of(kind);
  if (session != nullptr) {
    event.generation = session->generation();
    event.pid = session->pid();
  }
  event.text = std::move(text);
  Report(std::move(event));
}

std::shared_ptr<const DriverSnapshot> Driver::TakeSnapshot() {
  if (!std::exchange(changed_, false)) return nullptr;
  const auto& session = sessions_[static_cast<size_t>(Role::kActive)];
  auto snapshot = std::make_shared<DriverSnapshot>();
  snapshot->name = name();
  snapshot->version = config_.manifest.version;
  snapshot->state = lifecycle_->state();
  snapshot->generation = lifecycle_->generation();
  snapshot->pid = session != nullptr ? session->pid() : -1;
  snapshot->altitude = config_.channel.altitude;
  snapshot->running = releases_.Get(lifecycle_->running_release());
  snapshot->good = lifecycle_->good_release();
  if (const auto good = releases_.Get(snapshot->good)) {
    snapshot->good_content = good->content_version();
  }
  if (const auto loading = releases_.Get(lifecycle_->loading_release())) {
    snapshot->loading_content = loading->content_version();
  }
  snapshot->restarts = lifecycle_->restarts();
  snapshot->start_failures = lifecycle_->start_failures();
  snapshot->last_end = failures_[static_cast<size_t>(Role::kActive)].end;
  snapshot->last_exit = failures_[static_cast<size_t>(Role::kActive)].exit;
  snapshot->callbacks = asked_;
  snapshot->mode = static_cast<bh_mode>(policy_.mode);
  snapshot->allows_absent = bh_policy_may_allow(&policy_, BH_REASON_ABSENT) != 0;
  snapshot->next_start_ns = lifecycle_->next_start_ns();
  snapshot->quarantine_reason = quarantine_reason_;
  snapshot->sandbox = sandbox_;
  snapshot->in_force = in_force_;
  snapshot->rolled_back_to = rolled_back_to_;
  snapshot->rolled_back = rolled_back_;
  snapshot->rolled_back_reason = rolled_back_reason_;
  return snapshot;
}

}  // namespace bulkhead
