// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/lifecycle.h"

#include "ipc/check.h"

namespace bulkhead {

const char* StateName(State state) {
  constexpr const char* kNames[kStateCount] = {"stopped",     "awaiting hello", "awaiting started",
                                               "serving",     "awaiting drain", "awaiting exit",
                                               "backing off", "quarantined"};
  return kNames[static_cast<int>(state)];
}

const char* EventKindName(EventKind kind) {
  constexpr const char* kNames[kEventKindCount] = {
      "start",  "stop", "release", "content", "hello",        "started", "start failed",
      "exited", "hung", "hostile", "timer",   "spawn failed", "restart"};
  return kNames[static_cast<int>(kind)];
}

Lifecycle::Lifecycle(const LifecycleLimits& limits, uint64_t content, uint32_t last_generation)
    : limits_(limits),
      service_budget_(limits.service),
      start_budget_(limits.start),
      generation_(last_generation),
      running_(content),
      wanted_(content),
      good_(content) {}

bool Lifecycle::HasHost() const {
  switch (state_) {
    case State::kAwaitingHello:
    case State::kAwaitingStarted:
    case State::kServing:
    case State::kAwaitingDrain:
    case State::kAwaitingExit:
      return true;
    case State::kStopped:
    case State::kBackingOff:
    case State::kQuarantined:
      return false;
  }
  return false;
}

void Lifecycle::SetTimer(Actions& actions, uint64_t at_ns) {
  timer_ns_ = at_ns;
  actions.push_back({.kind = ActionKind::kSetTimer, .at_ns = at_ns});
}

void Lifecycle::Spawn(Actions& actions, uint64_t now_ns) {
  BULKHEAD_CHECK(!HasHost());
  ++generation_;
  begun_ = false;
  kill_why_ = BH_END_KILLED;
  running_ = wanted_;
  state_ = State::kAwaitingHello;
  actions.push_back({.kind = ActionKind::kSpawn,
                     .generation = generation_,
                     .reason = reason_,
                     .content = running_});
  SetTimer(actions, now_ns + limits_.hello_within_ns);
}

void Lifecycle::Kill(Actions& actions, bh_end why) {
  kill_why_ = why;
  state_ = State::kAwaitingExit;
  actions.push_back({.kind = ActionKind::kKill, .generation = generation_, .end = why});
  SetTimer(actions, 0);  // SIGKILL can't be refused: the exit will come
}

void Lifecycle::Drain(Actions& actions, uint64_t now_ns) {
  state_ = State::kAwaitingDrain;
  actions.push_back({.kind = ActionKind::kDrain, .generation = generation_});
  SetTimer(actions, now_ns + limits_.drain_within_ns);
}

std::vector<ActionItem> Lifecycle::Step(const Event& event, uint64_t now_ns) {
  Actions actions;
  const bool about_host = HasHost() && event.generation == generation_;
  switch (event.kind) {
    case EventKind::kStart:
    case EventKind::kStop:
    case EventKind::kRelease:
    case EventKind::kContent:
      OnWish(event, now_ns, actions);
      break;
    case EventKind::kHello:
      if (!about_host || state_ != State::kAwaitingHello) break;
      state_ = State::kAwaitingStarted;
      actions.push_back({.kind = ActionKind::kAttach,
                         .generation = generation_,
                         .reason = reason_,
                         .content = running_});
      SetTimer(actions, now_ns + limits_.started_within_ns);
      break;
    case EventKind::kStarted:
      if (about_host && state_ == State::kAwaitingStarted) OnStarted(now_ns, actions);
      break;
    case EventKind::kStartFailed:
      if (!about_host || state_ != State::kAwaitingStarted) break;
      state_ = State::kAwaitingExit;  // by itself, or when the time for it is over
      SetTimer(actions, now_ns + limits_.drain_within_ns);
      break;
    case EventKind::kHung:
    case EventKind::kHostile:
      if (!about_host || state_ == State::kAwaitingExit) break;
      Kill(actions, event.kind == EventKind::kHung ? BH_END_HUNG : BH_END_HOSTILE);
      break;
    case EventKind::kExited:
      if (about_host) OnExit(event.end, event.chance, now_ns, actions);
      break;
    case EventKind::kSpawnFailed:
      if (about_host && state_ == State::kAwaitingHello) {
        OnExit(BH_END_CRASHED, event.chance, now_ns, actions);
      }
      break;
    case EventKind::kRestart:
      if (HasHost() && state_ != State::kAwaitingExit) Kill(actions, BH_END_STOPPED);
      break;
    case EventKind::kTimer:
      if (timer_ns_ != 0 && now_ns >= timer_ns_) OnTimer(now_ns, actions);
      break;
  }
  return actions;
}

// An operator's word changes what is wanted; where things are decides what follows now.
void Lifecycle::OnWish(const Event& event, uint64_t now_ns, Actions& actions) {
  if (event.kind == EventKind::kStart) wants_service_ = true;
  if (event.kind == EventKind::kStop) wants_service_ = false;
  if (event.kind == EventKind::kContent) wanted_ = event.content;
  if (event.kind == EventKind::kContent || event.kind == EventKind::kRelease) {
    service_budget_.Forgive();
    start_budget_.Forgive();
    if (wanted_ == failed_) failed_ = 0;
  }
  const bool leave = !wants_service_ || wanted_ != running_;
  switch (state_) {
    case State::kStopped:
      if (!wants_service_) actions.push_back({.kind = ActionKind::kStoppedNow});
      if (!wants_service_) break;
      reason_ = BH_START_COLD;
      Spawn(actions, now_ns);
      break;
    case State::kServing:
      if (leave) Drain(actions, now_ns);
      if (!leave && event.kind == EventKind::kContent) {
        actions.push_back({.kind = ActionKind::kInForce, .content = running_});
      }
      break;
    case State::kAwaitingHello:
    case State::kAwaitingStarted:
      if (leave) Kill(actions, BH_END_STOPPED);
      break;
    case State::kAwaitingDrain:
    case State::kAwaitingExit:
      break;  // the exit looks at what is wanted then
    case State::kBackingOff:
    case State::kQuarantined:
      if (!wants_service_) {
        state_ = State::kStopped;
        SetTimer(actions, 0);
        actions.push_back({.kind = ActionKind::kStoppedNow});
      } else if (event.kind != EventKind::kStart) {
        if (wanted_ != running_) reason_ = BH_START_UPGRADE;
        Spawn(actions, now_ns);
      }
      break;
  }
}

void Lifecycle::OnStarted(uint64_t now_ns, Actions& actions) {
  state_ = State::kServing;
  begun_ = true;
  serving_since_ns_ = now_ns;
  actions.push_back({.kind = ActionKind::kBegin, .generation = generation_, .content = running_});
  actions.push_back({.kind = ActionKind::kInForce, .content = running_});
  SetTimer(actions,
           now_ns + (OnProbation() ? limits_.probation_ns : limits_.service.forgive_after_ns));
}

void Lifecycle::OnTimer(uint64_t now_ns, Actions& actions) {
  switch (state_) {
    case State::kAwaitingHello:
    case State::kAwaitingStarted:
    case State::kAwaitingDrain:
    case State::kAwaitingExit:
      Kill(actions, BH_END_HUNG);
      break;
    case State::kServing:
      if (OnProbation()) {
        good_ = running_;
        actions.push_back({.kind = ActionKind::kGood, .content = good_});
      }
      service_budget_.Healthy(serving_since_ns_, now_ns);
      start_budget_.Healthy(serving_since_ns_, now_ns);
      SetTimer(actions, now_ns + limits_.service.forgive_after_ns);
      break;
    case State::kBackingOff:
      Spawn(actions, now_ns);
      break;
    case State::kStopped:
    case State::kQuarantined:
      break;
  }
}

void Lifecycle::OnExit(bh_end end, uint64_t chance, uint64_t now_ns, Actions& actions) {
  const bool draining = state_ == State::kAwaitingDrain;
  const bool in_service = begun_;
  if (end == BH_END_KILLED && state_ == State::kAwaitingExit) end = kill_why_;
  // Nobody asked it to leave: that is a fall, whatever its exit code says.
  if (end == BH_END_STOPPED && !draining && kill_why_ != BH_END_STOPPED) {
    end = BH_END_CRASHED;
  }
  if (begun_) {
    actions.push_back({.kind = ActionKind::kEnd, .generation = generation_, .end = end});
  }
  begun_ = false;
  last_end_ = end;
  state_ = State::kStopped;  // for now: nobody runs
  if (!wants_service_) {
    SetTimer(actions, 0);
    actions.push_back({.kind = ActionKind::kStoppedNow});
    return;
  }
  ++restarts_;
  if (wanted_ != running_ || end == BH_END_STOPPED) {  // it left because somebody wished so
    reason_ = BH_START_UPGRADE;
    Spawn(actions, now_ns);
    return;
  }
  if (!in_service) ++start_failures_;
  if (OnProbation()) {
    failed_ = running_;
    wanted_ = good_;
    actions.push_back({.kind = ActionKind::kRolledBack, .end = end, .content = failed_});
    reason_ = BH_START_UPGRADE;
    Spawn(actions, now_ns);
    return;
  }
  reason_ = BH_START_CRASH_RESTART;
  const std::optional<uint64_t> at_ns =
      (in_service ? service_budget_ : start_budget_).Fell(now_ns, chance);
  if (!at_ns) {
    state_ = State::kQuarantined;
    SetTimer(actions, 0);
    actions.push_back({.kind = ActionKind::kQuarantine});
  } else if (*at_ns <= now_ns) {
    Spawn(actions, now_ns);
  } else {
    state_ = State::kBackingOff;
    SetTimer(actions, *at_ns);
  }
}

}  // namespace bulkhead
