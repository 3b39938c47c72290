// SPDX-License-Identifier: Apache-2.0
//
// What the lifecycle wants done: processes, what hosts are told, and what the shim is asked. Each
// request to the shim is carried by the LinkQueue, in the order of this driver's requests; its
// answer comes back to the loop.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "host/supervisor/driver.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

using Kind = DriverEventKind;

// What a link promises (ipc/shim_link.h).
constexpr uint64_t kLinkAnswersWithinNs = kNanosecondsPerSecond;
constexpr uint64_t kLookAgainNs = kNanosecondsPerMillisecond;

}  // namespace

void Driver::Submit(LinkQueue::Request request) {
  around_.link->Submit(lane_, std::move(request));
  if (link_check_ns_ == 0) link_check_ns_ = around_.now_ns() + kLinkAnswersWithinNs;
}

void Driver::CheckLink(uint64_t now_ns) {
  const uint64_t silent_ns = around_.link->SilentNs(lane_);
  if (silent_ns == 0) {
    link_check_ns_ = 0;
    if (std::exchange(link_silent_, false)) Report(Kind::kShimAnswers, nullptr);
    return;
  }
  if (silent_ns < kLinkAnswersWithinNs) {
    link_check_ns_ = now_ns + kLinkAnswersWithinNs - silent_ns;
    return;
  }
  link_check_ns_ = now_ns + kLinkAnswersWithinNs;
  if (std::exchange(link_silent_, true)) return;
  DriverEvent event = DriverEvent::Of(Kind::kShimSilent);
  event.number = static_cast<uint32_t>(silent_ns / kNanosecondsPerMillisecond);
  Report(std::move(event));
}

void Driver::SetPolicy(const bh_policy& policy, std::function<void(absl::Status)> done) {
  Submit([this, inbox = around_.inbox, policy, done = std::move(done)](ShimLink& link,
                                                                       ChannelId& channel) {
    absl::Status status = link.SetPolicy(channel, policy);
    if (status.ok()) {
      inbox->Post([this, policy] {
        policy_ = policy;
        changed_ = true;
      });
    }
    done(std::move(status));
  });
}

void Driver::Perform(const ActionItem& action) {
  HostSession* session = Find(action.role, action.generation);
  switch (action.kind) {
    case ActionKind::kSpawn:
      SpawnHost(action);
      break;
    case ActionKind::kAttach:
      AttachHost(action);
      break;
    case ActionKind::kServe:
      ServeHost(action);
      break;
    case ActionKind::kBegin:
      BeginGeneration(action);
      break;
    case ActionKind::kEnd:
      Submit([this, inbox = around_.inbox, action](ShimLink& link, ChannelId& channel) {
        const absl::StatusOr<bh_in_hand> in_hand =
            link.EndGeneration(channel, action.generation, action.end);
        inbox->Post([this, action, in_hand] { OnEnded(action, in_hand); });
      });
      ReportEnd(action);
      break;
    case ActionKind::kDrain:
      DrainHost(action);
      break;
    case ActionKind::kKill:
      if (session != nullptr) session->Kill();
      break;
    case ActionKind::kSetTimer:
      timers_ns_[static_cast<size_t>(action.role)] = action.at_ns;
      break;
    case ActionKind::kQuarantine:
      if (action.role != Role::kActive) break;
      SubmitState(/*quarantined=*/true, /*draining=*/false);
      quarantine_reason_ = FailureOf(action.role).Why();
      Report(Kind::kQuarantined, nullptr, quarantine_reason_);
      break;
    case ActionKind::kPardoned: {
      DriverEvent event = DriverEvent::Of(Kind::kPardoned);
      event.number = action.user;
      event.text = FailureOf(action.role).Why();
      Report(std::move(event));
      break;
    }
    case ActionKind::kInForce:
      in_force_ = action.release;
      break;
    case ActionKind::kRolledBack: {
      rolled_back_ = action.release;
      rolled_back_to_ = lifecycle_->wanted_release();
      rolled_back_reason_ = FailureOf(action.role).Why();
      DriverEvent event = DriverEvent::Of(Kind::kRolledBack);
      event.content = action.release;
      event.good_content = rolled_back_to_;
      event.text = rolled_back_reason_;
      Report(std::move(event));
      break;
    }
    case ActionKind::kAcquitted: {
      rolled_back_ = 0;
      rolled_back_reason_.clear();
      DriverEvent event = DriverEvent::Of(Kind::kContentAcquitted);
      event.content = action.release;
      event.good_content = lifecycle_->good_release();
      Report(std::move(event));
      break;
    }
    case ActionKind::kGood: {
      DriverEvent event = DriverEvent::Of(Kind::kContentGood);
      event.content = action.release;
      Report(std::move(event));
      break;
    }
    case ActionKind::kTrialFailed:
    case ActionKind::kStoppedNow:
      break;
  }
}

void Driver::OnEnded(const ActionItem& action, const absl::StatusOr<bh_in_hand>& in_hand) {
  // NotFound: its channel ended before it.
  if (!in_hand.ok() && !absl::IsNotFound(in_hand.status())) ReportLink(in_hand.status());
  if (in_hand.ok() && (in_hand->convicted_opener != 0 || in_hand->convicted_owner != 0)) {
    DriverEvent event = DriverEvent::Of(Kind::kUserQuarantined);
    event.number = in_hand->convicted_opener;
    event.owner = in_hand->convicted_owner;
    Report(std::move(event));
  }
  Step({.kind = EventKind::kEnded,
        .role = action.role,
        .generation = action.generation,
        .chance = around_.chance(),
        .in_hand = in_hand.value_or(bh_in_hand())});
}

// ---- Start

// The process waits until the shim knows it: no access of its own may come back as a call.
void Driver::SpawnHost(const ActionItem& action) {
  FailureOf(action.role).start.clear();
  std::shared_ptr<const Release> release = releases_.Get(action.release);
  absl::StatusOr<std::unique_ptr<HostSession>> session =
      release == nullptr
          ? absl::InternalError(absl::StrCat("there is no release ", action.release))
          : HostSession::Start(around_.spawner, action.role, action.generation, std::move(release));
  if (!session.ok()) {
    FailureOf(action.role).end = FailureOf(action.role).exit =
        absl::StrCat("can't start a host: ", session.status().message());
    DriverEvent event = DriverEvent::Of(Kind::kSpawnFailed);
    event.generation = action.generation;
    event.text = std::string(session.status().message());
    Report(std::move(event));
    Step({.kind = EventKind::kSpawnFailed,
          .role = action.role,
          .generation = action.generation,
          .chance = around_.chance()});
    return;
  }
  const pid_t pid = (*session)->pid();
  if (around_.store != nullptr) {
    around_.store->Put(KeptHostName(pid), (*session)->group(), {(*session)->pidfd()});
  }
  SessionOf(action.role) = *std::move(session);
  if (action.role == Role::kStandby) {
    DriverEvent event = DriverEvent::Of(Kind::kContentStarts);
    event.generation = action.generation;
    event.pid = pid;
    event.content = action.release;
    Report(std::move(event));
  }
  Submit([this, inbox = around_.inbox, pid, role = action.role, generation = action.generation](
             ShimLink& link, ChannelId& channel) {
    absl::StatusOr<ChannelDescriptors> regions = ChannelDescriptors();
    if (absl::Status excluded = link.Exclude(pid); !excluded.ok()) {
      regions = std::move(excluded);
    } else if (role == Role::kActive) {
      regions = link.Descriptors(channel);
    }
    inbox->Post([this, role, generation, regions = std::move(regions)]() mutable {
      OnPrepared(role, generation, std::move(regions));
    });
  });
}

void Driver::OnPrepared(Role role, uint32_t generation,
                        absl::StatusOr<ChannelDescriptors> regions) {
  HostSession* session = Find(role, generation);
  if (session == nullptr || lifecycle_->state(role) != State::kAwaitingSpawn) return;
  const absl::Status status = regions.ok() ? session->LetRun() : regions.status();
  if (!status.ok()) {
    FailureOf(role).start = absl::StrCat("can't start a host: ", status.message());
    Report(Kind::kSpawnFailed, session, std::string(status.message()));
    Step({.kind = EventKind::kUnprepared, .role = role, .generation = generation});
    return;
  }
  regions_[static_cast<size_t>(role)] = *std::move(regions);
  Step({.kind = EventKind::kSpawned, .role = role, .generation = generation});
}

void Driver::AttachHost(const ActionItem& action) {
  HostSession& session = *Find(action.role, action.generation);
  const Release& release = session.release();
  AttachFields fields;
  fields.reason = action.reason;
  fields.geometry = config_.channel.geometry;
  fields.workers = release.driver.workers;
  fields.pending_calls_max = release.driver.pending_calls_max;
  fields.driver_name = release.driver.name;
  fields.driver_path = release.driver.LibraryPath();
  fields.content_path = release.content_folder;
  fields.content_version = release.content_version();
  fields.options = release.options;
  fields.reads = absl::StrJoin(release.driver.reads, "\n");
  fields.writes = absl::StrJoin(release.driver.writes, "\n");
  fields.scratch_mib = release.driver.scratch_mib;
  fields.callbacks = release.driver.callbacks;
  fields.notifications = release.driver.notifications;
  fields.standby = action.role != Role::kActive;
  fields.checkpoint_bytes = fields.standby ? 0 : release.driver.checkpoint_bytes;
  fields.spin_ns = config_.channel.spin_ns;
  fields.sandbox = around_.sandbox;
  fields.sandbox_required = around_.sandbox_required;
  fields.user = user_.id;
  fields.user_lacks = user_.lacks;
  const int checkpoint = fields.checkpoint_bytes != 0 ? checkpoint_.fd().get() : -1;
  const absl::Status status = session.Attach(
      std::move(fields), std::exchange(regions_[static_cast<size_t>(action.role)], {}), checkpoint);
  if (status.ok()) return;
  FailureOf(action.role).start = absl::StrCat("its host took no Attach: ", status.message());
  session.Kill();
  Step({.kind = EventKind::kStartFailed, .role = action.role, .generation = action.generation});
}

// ---- Service

void Driver::ServeHost(const ActionItem& action) {
  std::unique_ptr<HostSession>& session = SessionOf(Role::kActive);
  session = std::move(SessionOf(Role::kStandby));
  session->TakeOver(action.generation);
  FailureOf(Role::kActive).start.clear();
  AskForChannel();
}

// When no thread of the host before can write to it any more: that takes a moment after its end.
void Driver::AskForChannel() {
  const HostSession* session = SessionOf(Role::kActive).get();
  serve_again_ns_ = 0;
  if (session == nullptr || lifecycle_->state() != State::kAwaitingServe) return;
  if (MayBeWrittenTo()) {
    serve_again_ns_ = around_.now_ns() + kLookAgainNs;
    return;
  }
  Submit([this, inbox = around_.inbox, generation = session->generation()](ShimLink& link,
                                                                           ChannelId& channel) {
    absl::StatusOr<ChannelDescriptors> regions = link.Descriptors(channel);
    inbox->Post(
        [this, generation, regions = std::move(regions)] { OnChannel(generation, regions); });
  });
}

void Driver::OnChannel(uint32_t generation, const absl::StatusOr<ChannelDescriptors>& regions) {
  HostSession* session = Find(Role::kActive, generation);
  if (session == nullptr || lifecycle_->state() != State::kAwaitingServe) return;
  const absl::Status status = regions.ok() ? session->Serve(*regions) : regions.status();
  if (status.ok()) {
    Step({.kind = EventKind::kTold, .generation = generation});
    return;
  }
  FailureOf(Role::kActive).start =
      absl::StrCat("its host can't be told to serve: ", status.message());
  Step({.kind = EventKind::kUnprepared, .generation = generation});
}

void Driver::BeginGeneration(const ActionItem& action) {
  HostSession& session = *Find(action.role, action.generation);
  absl::StatusOr<UniqueFd> files = session.ShimFiles();
  if (!files.ok()) {
    OnBeginAnswer(action.role, action.generation, absl::OkStatus(), files.status(), 0);
    return;
  }
  session.wanted.generation = action.generation;
  session.wanted.content_version = action.release;
  Submit([this, inbox = around_.inbox, now_ns = around_.now_ns, action, wanted = session.wanted,
          files = *std::move(files)](ShimLink& link, ChannelId& channel) mutable {
    absl::Status told = link.CanNotify(wanted.notifications);
    absl::Status begun = link.BeginGeneration(channel, wanted, std::move(files));
    inbox->Post([this, action, told = std::move(told), begun = std::move(begun), at_ns = now_ns()] {
      OnBeginAnswer(action.role, action.generation, told, begun, at_ns);
    });
  });
}

void Driver::OnBeginAnswer(Role role, uint32_t generation, const absl::Status& notifications,
                           const absl::Status& begun, uint64_t at_ns) {
  HostSession* session = Find(role, generation);
  if (session == nullptr || lifecycle_->state(role) != State::kAwaitingBegin) return;
  if (!begun.ok()) {
    if (begin_failed_ != generation) {  // once, however often it is tried
      Report(Kind::kBeginFailed, session, std::string(begun.message()));
    }
    begin_failed_ = generation;
    Step({.kind = EventKind::kBeginFailed,
          .role = role,
          .generation = generation,
          .retry = absl::IsUnavailable(begun) || absl::IsDeadlineExceeded(begun)});
    return;
  }
  if (!notifications.ok()) ReportLink(notifications);  // without them a driver still answers
  quarantine_reason_.clear();
  FailureOf(role).start.clear();
  if (death_seen_ns_ != 0) recoveries_.Add({death_seen_ns_, at_ns});
  death_seen_ns_ = 0;
  Step({.kind = EventKind::kBegun, .role = role, .generation = generation});
  Report(Kind::kServing, session);
}

void Driver::DrainHost(const ActionItem& action) {
  if (action.role != Role::kActive) {
    SendDrain(action.role, action.generation);
    return;
  }
  // First the shim, so that it gives the host no more calls; a shim that does not answer in time
  // does not keep the host from ending in order.
  drain_ns_[static_cast<size_t>(action.role)] = around_.now_ns() + kLinkAnswersWithinNs;
  Submit([this, inbox = around_.inbox, action](ShimLink& link, ChannelId& channel) {
    absl::Status status = link.SetState(channel, /*quarantined=*/false, /*draining=*/true);
    inbox->Post([this, action, status = std::move(status)] {
      ReportLink(status);
      SendDrain(action.role, action.generation);
    });
  });
}

void Driver::SendDrain(Role role, uint32_t generation) {
  HostSession* session = Find(role, generation);
  if (session == nullptr || lifecycle_->state(role) != State::kAwaitingDrain) return;
  if (role == Role::kActive && drain_ns_[static_cast<size_t>(role)] == 0) return;  // sent
  drain_ns_[static_cast<size_t>(role)] = 0;
  // A host that can't be told is killed when the time for it is over.
  (void)session->SendDrain();
}

void Driver::SubmitState(bool quarantined, bool draining) {
  Submit([this, inbox = around_.inbox, quarantined, draining](ShimLink& link, ChannelId& channel) {
    absl::Status status = link.SetState(channel, quarantined, draining);
    inbox->Post([this, status = std::move(status)] { ReportLink(status); });
  });
}

// ---- End

void Driver::ReportLink(const absl::Status& status) const {
  if (!status.ok()) Report(Kind::kLinkFailed, nullptr, std::string(status.message()));
}

// The lifecycle may be at the next generation already: the event is about the one that ended.
void Driver::ReportEnd(const ActionItem& action) {
  DriverEvent event = DriverEvent::Of(Kind::kEnded);
  if (action.end == BH_END_STOPPED) event.level = DriverEvent::Level::kInfo;
  event.generation = action.generation;
  event.pid = last_pid_;
  event.end = action.end;
  event.text = FailureOf(action.role).end;
  Report(std::move(event));
}

// The shim has to make its channel again; the hosts have the old one.
void Driver::OnShimLost() {
  ChannelSpec spec = config_.channel;
  spec.driver = name();
  spec.policy = policy_;
  Submit([this, inbox = around_.inbox, spec = std::move(spec)](ShimLink& link, ChannelId& channel) {
    const absl::StatusOr<ChannelId> again = link.AddChannel(spec);
    if (again.ok()) channel = *again;
    inbox->Post([this, again] {
      if (again.ok()) channel_ = *again;
      ReportLink(again.status());
    });
  });
  Step({.kind = EventKind::kRestart});
}

}  // namespace bulkhead
