// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/lifecycle.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "ipc/check.h"

namespace bulkhead {

const char* RoleName(Role role) {
  constexpr const char* kNames[] = {"active", "standby", "canary"};
  return kNames[static_cast<int>(role)];
}

const char* StateName(State state) {
  constexpr const char* kNames[] = {
#define X(name, text) text,
      BULKHEAD_STATES(X)
#undef X
  };
  return kNames[static_cast<int>(state)];
}

const char* EventKindName(EventKind kind) {
  constexpr const char* kNames[] = {
#define X(name, text) text,
      BULKHEAD_EVENTS(X)
#undef X
  };
  return kNames[static_cast<int>(kind)];
}

Lifecycle::Lifecycle(const LifecycleLimits& limits, ReleaseId release, uint32_t last_generation)
    : limits_(limits),
      sessions_{Session(Role::kActive, limits, release), Session(Role::kStandby, limits, release),
                Session(Role::kCanary, limits, release)},
      newest_generation_(last_generation),
      newest_release_(release),
      wanted_(release),
      good_(release) {}

std::vector<ActionItem> Lifecycle::Adopt(const Adopted& left, uint64_t now_ns) {
  Session& session = At(Role::kActive);
  BULKHEAD_CHECK(session.state == State::kStopped && !session.wanted);
  session.wanted = true;
  session.state = State::kServing;
  session.generation = left.generation;
  session.running = left.running;
  session.begun = true;
  session.started_ns = session.served_ns = now_ns;
  session.has_served = true;
  newest_generation_ = std::max(newest_generation_, left.newest_generation);
  newest_release_ = left.newest_release;
  wanted_ = left.running;
  good_ = left.good;
  restarts_ = left.restarts;
  start_failures_ = left.start_failures;
  Actions actions;
  actions.push_back({.kind = ActionKind::kInForce, .release = session.running});
  if (OnProbation()) SetTimer(session, actions, now_ns + limits_.probation_ns);
  return actions;
}

bool Lifecycle::HasHost(Role role) const {
  switch (At(role).state) {
    case State::kAwaitingSpawn:
    case State::kAwaitingHello:
    case State::kAwaitingServe:
    case State::kAwaitingStarted:
    case State::kAwaitingBegin:
    case State::kServing:
    case State::kReady:
    case State::kAwaitingDrain:
    case State::kAwaitingExit:
      return true;
    case State::kStopped:
    case State::kAwaitingCharge:
    case State::kBackingOff:
    case State::kQuarantined:
    case State::kCount:
      return false;
  }
  return false;
}

bool Lifecycle::Stopped() const {
  return std::all_of(sessions_.begin(), sessions_.end(),
                     [](const Session& session) { return session.state == State::kStopped; });
}

ReleaseId Lifecycle::ReleaseFor(const Session& session) const {
  if (session.role == Role::kCanary) return trial_;
  return session.role == Role::kActive && handing_over_ ? held_ : wanted_;
}

void Lifecycle::SetTimer(Session& session, Actions& actions, uint64_t at_ns) {
  session.timer_ns = at_ns;
  actions.push_back({.kind = ActionKind::kSetTimer, .role = session.role, .at_ns = at_ns});
}

void Lifecycle::Spawn(Session& session, Actions& actions) {
  BULKHEAD_CHECK(!HasHost(session.role));
  session.generation = ++newest_generation_;
  if (session.role == Role::kActive && comparing_ == kNextHost) comparing_ = session.generation;
  session.begun = false;
  session.served_ns = 0;
  session.hung_ns = 0;
  session.kill_why = BH_END_KILLED;
  session.spared = false;
  session.running = ReleaseFor(session);
  if (session.role == Role::kStandby && handing_over_) session.reason = BH_START_UPGRADE;
  session.state = State::kAwaitingSpawn;
  SetTimer(session, actions, 0);
  actions.push_back({.kind = ActionKind::kSpawn,
                     .role = session.role,
                     .generation = session.generation,
                     .reason = session.reason,
                     .release = session.running});
}

void Lifecycle::Begin(const Session& session, Actions& actions) {
  actions.push_back({.kind = ActionKind::kBegin,
                     .role = session.role,
                     .generation = session.generation,
                     .release = session.running});
}

void Lifecycle::Kill(Session& session, Actions& actions, bh_end why) {
  session.kill_why = why;
  session.state = State::kAwaitingExit;
  actions.push_back({.kind = ActionKind::kKill,
                     .role = session.role,
                     .generation = session.generation,
                     .end = why});
  SetTimer(session, actions, 0);  // SIGKILL can't be refused: the exit will come
}

void Lifecycle::Drain(Session& session, uint64_t now_ns, Actions& actions) {
  session.state = State::kAwaitingDrain;
  actions.push_back(
      {.kind = ActionKind::kDrain, .role = session.role, .generation = session.generation});
  SetTimer(session, actions, now_ns + limits_.drain_within_ns);
}

bool Lifecycle::Needs(ReleaseId release) const {
  if (release > newest_release_ || release == wanted_ || release == good_) return true;
  if (handing_over_ && release == held_) return true;
  if (comparing_ != 0 && release == failed_) return true;
  if (At(Role::kCanary).wanted && release == trial_) return true;
  return std::any_of(sessions_.begin(), sessions_.end(), [this, release](const Session& session) {
    return session.running == release && (session.role == Role::kActive || HasHost(session.role));
  });
}

std::vector<ActionItem> Lifecycle::Step(const Event& event, uint64_t now_ns) {
  Actions actions;
  newest_release_ = std::max(newest_release_, event.release);
  Session& session = At(event.role);
  const bool about_host = HasHost(event.role) && event.generation == session.generation;
  const State state = session.state;
  switch (event.kind) {
    case EventKind::kStart:
    case EventKind::kStop:
      if (event.kind == EventKind::kStop && event.role == Role::kActive) {
        handing_over_ = false;
        for (const Role role : {Role::kStandby, Role::kCanary}) {
          Want(At(role), event, now_ns, actions);
        }
      }
      Want(session, event, now_ns, actions);
      break;
    case EventKind::kLift:
    case EventKind::kUpdate:
      for (Session& each : sessions_) {
        each.service.Forgive();
        each.start.Forgive();
        each.retry_ns = 0;
      }
      comparing_ = 0;
      if (event.kind == EventKind::kUpdate) SetWanted(event.release, now_ns, actions);
      if (wanted_ == failed_) failed_ = 0;
      Want(At(Role::kActive), event, now_ns, actions);
      break;
    case EventKind::kSpawned:
      if (!about_host || state != State::kAwaitingSpawn) break;
      session.state = State::kAwaitingHello;
      SetTimer(session, actions, now_ns + limits_.hello_within_ns);
      break;
    case EventKind::kSpawnFailed:
      if (about_host && state == State::kAwaitingSpawn) {
        OnSpawnFailed(session, event.chance, now_ns, actions);
      }
      break;
    case EventKind::kUnprepared:
      if (!about_host || (state != State::kAwaitingSpawn && state != State::kAwaitingServe)) break;
      session.spared = true;
      Kill(session, actions, BH_END_KILLED);
      break;
    case EventKind::kHello:
      if (!about_host || state != State::kAwaitingHello) break;
      session.state = State::kAwaitingStarted;
      actions.push_back({.kind = ActionKind::kAttach,
                         .role = event.role,
                         .generation = session.generation,
                         .reason = session.reason,
                         .release = session.running});
      SetTimer(session, actions, now_ns + limits_.started_within_ns);
      break;
    case EventKind::kReady:
      if (about_host && state == State::kAwaitingStarted && event.role != Role::kActive) {
        OnReady(session, now_ns, actions);
      }
      break;
    case EventKind::kTold:
      if (!about_host || state != State::kAwaitingServe) break;
      session.state = State::kAwaitingStarted;
      SetTimer(session, actions, now_ns + limits_.hello_within_ns);
      break;
    case EventKind::kStarted:
      if (about_host && state == State::kAwaitingStarted && event.role == Role::kActive) {
        OnStarted(session, now_ns, actions);
      }
      break;
    case EventKind::kStartFailed:
      if (!about_host || state != State::kAwaitingStarted) break;
      session.state = State::kAwaitingExit;  // by itself, or when the time for it is over
      SetTimer(session, actions, now_ns + limits_.drain_within_ns);
      break;
    case EventKind::kBegun:
      if (!about_host || state != State::kAwaitingBegin) break;
      session.state = State::kServing;
      session.served_ns = now_ns;
      session.has_served = true;
      actions.push_back({.kind = ActionKind::kInForce, .release = session.running});
      SetTimer(session, actions, OnProbation() ? now_ns + limits_.probation_ns : 0);
      break;
    case EventKind::kBeginFailed:
      if (about_host && state == State::kAwaitingBegin) {
        OnBeginFailed(session, event.retry, now_ns, actions);
      }
      break;
    case EventKind::kHung:
    case EventKind::kHostile:
      if (!about_host || state == State::kAwaitingExit) break;
      session.hung_ns = event.hung_ns;
      Kill(session, actions, event.kind == EventKind::kHung ? BH_END_HUNG : BH_END_HOSTILE);
      break;
    case EventKind::kPoison:
      // Of an acquitted release, a call that is known to end hosts may be convicted at its first.
      if (comparing_ != 0 && !ServesForLong(At(Role::kActive), now_ns) &&
          (event.generation == comparing_ ||
           (event.generation == fallen_ && failed_ == acquitted_))) {
        comparing_ = 0;
        acquitted_ = std::exchange(failed_, 0);
        actions.push_back({.kind = ActionKind::kAcquitted, .release = acquitted_});
        SetWanted(acquitted_, now_ns, actions);
        // Its budget is the driver's: what waits or is quarantined is not started for this.
        if (HasHost(Role::kActive)) {
          Want(At(Role::kActive), {.kind = EventKind::kUpdate}, now_ns, actions);
        }
      }
      break;
    case EventKind::kExited:
      if (about_host) OnExit(session, event.end, event.chance, now_ns, actions);
      break;
    case EventKind::kEnded:
      if (event.generation == session.charged) OnEnded(session, event, now_ns, actions);
      break;
    case EventKind::kRestart: {
      Session& active = At(Role::kActive);  // the others have no channel yet
      if (HasHost(Role::kActive) && active.state != State::kAwaitingExit) {
        Kill(active, actions, BH_END_STOPPED);
      }
      break;
    }
    case EventKind::kTimer:
      if (session.timer_ns != 0 && now_ns >= session.timer_ns) OnTimer(session, actions);
      break;
    case EventKind::kCount:
      break;
  }
  return actions;
}

// The next hosts run this release; a standby of another one is replaced now.
void Lifecycle::SetWanted(ReleaseId release, uint64_t now_ns, Actions& actions) {
  wanted_ = release;
  const Session& active = At(Role::kActive);
  // Or will again, by itself: content that does not start must not keep it from that.
  const bool serves =
      active.has_served && active.state != State::kStopped && active.state != State::kQuarantined;
  if (handing_over_) {
    handing_over_ = wanted_ != held_;
  } else if (limits_.beside && active.wanted && serves && wanted_ != active.running) {
    handing_over_ = true;
    held_ = active.running;
  }
  Session& standby = At(Role::kStandby);
  if (Wanted(standby) || standby.state != State::kStopped) {
    Want(standby, {.kind = EventKind::kUpdate}, now_ns, actions);
  }
  if (StandbyCanTakeOver()) TakeOver(now_ns, actions);
}

void Lifecycle::OnReady(Session& session, uint64_t now_ns, Actions& actions) {
  session.state = State::kReady;
  SetTimer(session, actions, 0);
  if (StandbyCanTakeOver()) TakeOver(now_ns, actions);
}

bool Lifecycle::StandbyCanTakeOver() const {
  const Session& standby = At(Role::kStandby);
  return handing_over_ && standby.state == State::kReady && standby.running == wanted_;
}

// At once where the active session has no host; otherwise that host ends first, in order if it
// serves.
void Lifecycle::TakeOver(uint64_t now_ns, Actions& actions) {
  Session& active = At(Role::kActive);
  if (HasHost(Role::kActive)) {
    Want(active, {.kind = EventKind::kUpdate}, now_ns, actions);
    return;
  }
  Session& standby = At(Role::kStandby);
  handing_over_ = false;
  active.state = State::kAwaitingServe;
  active.generation = ++newest_generation_;
  active.running = standby.running;
  active.begun = false;
  active.served_ns = 0;
  active.hung_ns = 0;
  active.kill_why = BH_END_KILLED;
  active.spared = false;
  active.reason = BH_START_UPGRADE;
  actions.push_back({.kind = ActionKind::kServe,
                     .role = active.role,
                     .generation = active.generation,
                     .release = active.running});
  SetTimer(active, actions, 0);
  standby.state = State::kStopped;
  if (standby.wanted) Want(standby, {.kind = EventKind::kUpdate}, now_ns, actions);
}

// What is wanted has changed; the state decides what follows now.
void Lifecycle::Want(Session& session, const Event& event, uint64_t now_ns, Actions& actions) {
  if (event.kind == EventKind::kStart) session.wanted = true;
  if (event.kind == EventKind::kStop) session.wanted = false;
  if (event.kind == EventKind::kStart && session.role == Role::kCanary) trial_ = event.release;
  const bool relieved = session.role == Role::kActive && StandbyCanTakeOver();
  const bool leave = !Wanted(session) || ReleaseFor(session) != session.running || relieved;
  switch (session.state) {
    case State::kStopped:
      if (!Wanted(session)) {
        actions.push_back({.kind = ActionKind::kStoppedNow, .role = session.role});
        break;
      }
      session.reason = BH_START_COLD;
      Spawn(session, actions);
      break;
    case State::kAwaitingBegin:  // the shim may have begun it
    case State::kServing:
    case State::kReady:
      if (leave) Drain(session, now_ns, actions);
      if (!leave && event.kind == EventKind::kUpdate && session.state == State::kServing &&
          session.running == wanted_) {
        actions.push_back({.kind = ActionKind::kInForce, .release = session.running});
      }
      break;
    case State::kAwaitingSpawn:
    case State::kAwaitingHello:
    case State::kAwaitingServe:
    case State::kAwaitingStarted:
      if (leave) Kill(session, actions, BH_END_STOPPED);
      break;
    case State::kAwaitingDrain:
    case State::kAwaitingExit:
      break;  // the exit looks at what is wanted then
    case State::kAwaitingCharge:
    case State::kBackingOff:
    case State::kQuarantined:
      if (!Wanted(session)) {
        session.state = State::kStopped;
        SetTimer(session, actions, 0);
        actions.push_back({.kind = ActionKind::kStoppedNow, .role = session.role});
      } else if (event.kind != EventKind::kStart) {
        if (leave) session.reason = BH_START_UPGRADE;
        Spawn(session, actions);
      }
      break;
    case State::kCount:
      break;
  }
}

void Lifecycle::OnStarted(Session& session, uint64_t now_ns, Actions& actions) {
  session.started_ns = now_ns;
  session.state = State::kAwaitingBegin;
  session.begun = true;
  Begin(session, actions);
  SetTimer(session, actions, 0);
}

void Lifecycle::OnBeginFailed(Session& session, bool retry, uint64_t now_ns, Actions& actions) {
  if (retry && now_ns - session.started_ns < limits_.begin_within_ns) {
    SetTimer(session, actions, now_ns + limits_.begin_again_ns);
    return;
  }
  session.spared = retry;  // it could not be reached
  Kill(session, actions, BH_END_KILLED);
}

void Lifecycle::OnTimer(Session& session, Actions& actions) {
  session.timer_ns = 0;
  switch (session.state) {
    case State::kAwaitingDrain:
      // It may be busy with what it has in hand, which the next host gets.
      Kill(session, actions, BH_END_STOPPED);
      break;
    case State::kAwaitingHello:
    case State::kAwaitingStarted:
    case State::kAwaitingExit:
      Kill(session, actions, BH_END_HUNG);
      break;
    case State::kAwaitingBegin:
      Begin(session, actions);
      break;
    case State::kServing:
    case State::kReady:
      if (session.role == Role::kActive && OnProbation()) {
        good_ = session.running;
        actions.push_back({.kind = ActionKind::kGood, .release = good_});
      }
      break;
    case State::kBackingOff:
    case State::kQuarantined:
      Spawn(session, actions);
      break;
    case State::kStopped:
    case State::kAwaitingSpawn:
    case State::kAwaitingServe:
    case State::kAwaitingCharge:
    case State::kCount:
      break;
  }
}

void Lifecycle::OnExit(Session& session, bh_end end, uint64_t chance, uint64_t now_ns,
                       Actions& actions) {
  const bool draining = session.state == State::kAwaitingDrain;
  const bool in_service = session.begun;
  // A release on probation may have made the kernel kill its host for want of memory as it started.
  const bool may_be_release = session.served_ns == 0 && session.running != good_;
  const bool killed = end == BH_END_KILLED || end == BH_END_STARVED;
  const bool from_outside =
      session.spared || (killed && session.state != State::kAwaitingExit && !may_be_release);
  if (killed && session.state == State::kAwaitingExit) end = session.kill_why;
  // It was not asked to leave: that is a crash, whatever its exit code says.
  if (end == BH_END_STOPPED && !draining && session.kill_why != BH_END_STOPPED) {
    end = BH_END_CRASHED;
  }
  if (session.begun) {
    actions.push_back({.kind = ActionKind::kEnd,
                       .role = session.role,
                       .generation = session.generation,
                       .end = end});
  }
  // One that was killed, or had no calls, says nothing about the call. SUBTLE: that it serves may
  // be told after its end. Want of memory may be the call's doing.
  const bool says_nothing = !in_service || (from_outside && end != BH_END_STARVED);
  if (comparing_ == session.generation && says_nothing) comparing_ = kNextHost;
  session.begun = false;
  session.last_end = end;
  session.state = State::kStopped;  // no host runs now
  if (!Wanted(session)) {
    SetTimer(session, actions, 0);
    actions.push_back({.kind = ActionKind::kStoppedNow, .role = session.role});
    return;
  }
  if (session.role == Role::kActive && StandbyCanTakeOver()) {
    ++restarts_;
    TakeOver(now_ns, actions);
  } else if (from_outside && ReleaseFor(session) == session.running) {
    if (session.role == Role::kActive) ++restarts_;
    StartAgain(session, session.outside, chance, now_ns, actions);
  } else if (session.role == Role::kActive) {
    OnActiveExit(session, end, in_service, chance, now_ns, actions);
  } else if (ReleaseFor(session) != session.running || end == BH_END_STOPPED) {
    session.reason = BH_START_UPGRADE;  // it ended because that was wanted
    Spawn(session, actions);
  } else if (session.role == Role::kStandby && handing_over_) {
    // The good release stays what a failing one is replaced by, even if it fails today.
    const ReleaseId failed = session.running;
    if (failed != good_) failed_ = failed;
    handing_over_ = false;
    SetWanted(held_, now_ns, actions);
    actions.push_back(
        {.kind = ActionKind::kRolledBack, .role = session.role, .end = end, .release = failed});
  } else if (session.role == Role::kCanary) {
    session.wanted = false;
    SetTimer(session, actions, 0);
    actions.push_back({.kind = ActionKind::kTrialFailed,
                       .role = session.role,
                       .end = end,
                       .release = session.running});
  } else {
    StartAgain(session, session.start, chance, now_ns, actions);
  }
}

// Then what it falls over is not what the host before it had in hand.
bool Lifecycle::ServesForLong(const Session& session, uint64_t now_ns) const {
  return session.served_ns != 0 && now_ns - session.served_ns > limits_.service.window_ns;
}

void Lifecycle::OnSpawnFailed(Session& session, uint64_t chance, uint64_t now_ns,
                              Actions& actions) {
  // New content is not taken back because the machine has no room for a host beside the other.
  const bool beside = session.role == Role::kStandby && handing_over_;
  if (!(session.has_served || beside) || !Wanted(session)) {
    OnExit(session, BH_END_CRASHED, chance, now_ns, actions);
    return;
  }
  if (comparing_ == session.generation) comparing_ = kNextHost;
  session.last_end = BH_END_CRASHED;
  session.state = State::kStopped;
  if (session.role == Role::kActive) {
    ++restarts_;
    ++start_failures_;
  }
  StartAgain(session, session.outside, chance, now_ns, actions);
}

void Lifecycle::OnActiveExit(Session& session, bh_end end, bool in_service, uint64_t chance,
                             uint64_t now_ns, Actions& actions) {
  ++restarts_;
  // It ended because that was wanted.
  if (ReleaseFor(session) != session.running || end == BH_END_STOPPED) {
    session.reason = BH_START_UPGRADE;
    Spawn(session, actions);
    return;
  }
  if (!in_service) ++start_failures_;
  if (OnProbation() && handing_over_) {  // what is to follow it is on its way
    held_ = good_;
    SetWanted(wanted_, now_ns, actions);  // may be the good one
    session.reason = BH_START_UPGRADE;
    Spawn(session, actions);
    return;
  }
  if (OnProbation()) {
    failed_ = session.running;
    SetWanted(good_, now_ns, actions);
    actions.push_back({.kind = ActionKind::kRolledBack, .end = end, .release = failed_});
    session.reason = BH_START_UPGRADE;
    fallen_ = session.generation;
    Spawn(session, actions);
    // A call over which a host hung has ended with its deadline: no other host gets it.
    comparing_ = in_service && end == BH_END_CRASHED ? session.generation : 0;
    return;
  }
  StartAgain(session, in_service ? session.service : session.start, chance, now_ns, actions);
}

void Lifecycle::StartAgain(Session& session, RestartBudget& budget, uint64_t chance,
                           uint64_t now_ns, Actions& actions) {
  session.reason = BH_START_CRASH_RESTART;
  const uint64_t served_ns = session.served_ns == 0 ? 0 : now_ns - session.served_ns;
  const uint64_t hung_ns = std::min(session.hung_ns, served_ns);
  if (served_ns - hung_ns >= limits_.service.window_ns) session.retry_ns = 0;
  const std::optional<uint64_t> at_ns = budget.Fell(now_ns, chance, served_ns, hung_ns);
  const bool in_service = &budget == &session.service;
  if (in_service) session.charged = session.generation;
  if (at_ns) {
    StartAt(session, *at_ns, now_ns, actions);
  } else if (in_service) {
    session.state = State::kAwaitingCharge;
    SetTimer(session, actions, 0);
  } else {
    Quarantine(session, now_ns, actions);
  }
}

void Lifecycle::StartAt(Session& session, uint64_t at_ns, uint64_t now_ns, Actions& actions) {
  if (at_ns <= now_ns) {
    Spawn(session, actions);
  } else {
    session.state = State::kBackingOff;
    SetTimer(session, actions, at_ns);
  }
}

void Lifecycle::Quarantine(Session& session, uint64_t now_ns, Actions& actions) {
  session.state = State::kQuarantined;
  session.retry_ns = session.retry_ns == 0 ? limits_.retry_ns
                                           : std::min(2 * session.retry_ns, limits_.retry_ns_max);
  SetTimer(session, actions, limits_.retry_ns == 0 ? 0 : now_ns + session.retry_ns);
  actions.push_back({.kind = ActionKind::kQuarantine, .role = session.role});
}

void Lifecycle::OnEnded(Session& session, const Event& event, uint64_t now_ns, Actions& actions) {
  session.charged = 0;
  session.service.Explain(event.in_hand);
  if (session.state != State::kAwaitingCharge) return;
  uint64_t at_ns = 0;
  const uint32_t user = session.service.Pardon(now_ns, event.chance, &at_ns);
  if (user == 0) {
    Quarantine(session, now_ns, actions);
    return;
  }
  actions.push_back({.kind = ActionKind::kPardoned, .role = session.role, .user = user});
  StartAt(session, at_ns, now_ns, actions);
}

}  // namespace bulkhead
