// SPDX-License-Identifier: Apache-2.0
//
// Lifecycle: every decision about one driver's hosts. A pure state machine: what has happened comes
// in as an event with the time, what is to be done goes out as actions, and nothing else is
// touched.
//
// States are named for what they wait on; what is wanted (to serve or to stop, and which content)
// is kept apart from where things are.
//
//                        ┌───────────── may start ──────────────┐
//                        ▼                                      │
//   Stopped ─ start ─▶ AwaitingHello ─ hello ─▶ AwaitingStarted │      exited, budget left
//      ▲                 │      │                │      │       └──────── BackingOff ◀──┐
//      │                 │      └ late: kill ┐   │      └ started ─▶ Serving            │
//      │              exited                 ▼   │                    │  │  │           │
//      │                 └────────────▶ AwaitingExit ◀── kill ────────┘  │  └ exited ───┤
//      │                                     │    ▲                      │              │
//      │                                     │    └─ late ─ AwaitingDrain ◀ stop,       │
//      │                                     │                   │         new content  │
//      └───────── stop wanted ───────────────┴──── exited ───────┘                      │
//                                            └──────────────────────────────────────────┤
//   Quarantined ◀──────────────────────── exited, budget used up ───────────────────────┘
//      └─ release, new content ─▶ AwaitingHello
//
// Content: `wanted` is what the next generation is started with, `good` the newest that stayed
// healthy for its whole probation (or the first ever). A generation with content that is not good
// yet is on probation: if it fails to start or falls, the wanted content goes back to the good one
// at once, and neither budget is charged. Content that failed is never tried again unless it is
// given again.
#ifndef BULKHEAD_HOST_SUPERVISOR_LIFECYCLE_H_
#define BULKHEAD_HOST_SUPERVISOR_LIFECYCLE_H_

#include <cstdint>
#include <vector>

#include "host/supervisor/restart_budget.h"
#include "ipc/shim_link.h"

namespace bulkhead {

enum class State : uint8_t {
  kStopped,
  kAwaitingHello,
  kAwaitingStarted,
  kServing,
  kAwaitingDrain,
  kAwaitingExit,
  kBackingOff,
  kQuarantined,
};
inline constexpr int kStateCount = 8;
const char* StateName(State state);

enum class EventKind : uint8_t {
  kStart,        // an operator wants it to serve
  kStop,         // an operator wants it to stop
  kRelease,      // an operator lifts the quarantine
  kContent,      // put `content` in force
  kHello,        // the host runs
  kStarted,      // its driver serves
  kStartFailed,  // its driver does not; the host will exit
  kExited,       // the host was reaped; `end` as its exit status says
  kHung,         // it missed a call's deadline or its heartbeat
  kHostile,      // it broke the protocol
  kTimer,        // the time that was asked for has come
  kSpawnFailed,  // there is no process
  kRestart,      // its channel is gone: it has to attach to another
};
inline constexpr int kEventKindCount = 13;
const char* EventKindName(EventKind kind);

struct Event {
  EventKind kind;
  uint32_t generation = 0;      // of a host: hello, started, start failed, exited, hung, hostile
  bh_end end = BH_END_CRASHED;  // exited: stopped (exit 0), crashed or killed (SIGKILL)
  uint64_t content = 0;         // content: its version
  uint64_t chance = 0;          // exited, spawn failed: a random number, for jitter
};

enum class ActionKind : uint8_t {
  kSpawn,       // start a host as `generation` with `content`, for `reason`
  kAttach,      // say Attach to it
  kBegin,       // tell the shim that `generation` serves
  kEnd,         // tell the shim that `generation` ended by `end`
  kDrain,       // tell the shim and the host to finish what is in hand
  kKill,        // SIGKILL
  kSetTimer,    // one timer: it replaces the one before; at_ns 0: none
  kQuarantine,  // tell the shim that nobody will come
  kInForce,     // `content` serves
  kRolledBack,  // `content` failed; the good one is wanted again
  kGood,        // `content` has stayed healthy for its probation
  kStoppedNow,  // there is no host, and none will come by itself
};

struct ActionItem {
  ActionKind kind;
  uint32_t generation = 0;
  bh_end end = BH_END_STOPPED;
  bh_start reason = BH_START_COLD;
  uint64_t content = 0;
  uint64_t at_ns = 0;
};

struct LifecycleLimits {
  BudgetLimits service;
  BudgetLimits start;
  uint64_t hello_within_ns = 5'000'000'000;
  uint64_t started_within_ns = 30'000'000'000;
  uint64_t drain_within_ns = 5'000'000'000;
  uint64_t probation_ns = 60'000'000'000;
};

class Lifecycle {
 public:
  // `content`: the first content, taken as good; 0 for a driver without content. `last_generation`:
  // under a supervisor before this one; 0 for none.
  Lifecycle(const LifecycleLimits& limits, uint64_t content, uint32_t last_generation = 0);

  // The one transition function.
  std::vector<ActionItem> Step(const Event& event, uint64_t now_ns);

  State state() const { return state_; }
  bool wants_service() const { return wants_service_; }
  uint32_t generation() const { return generation_; }  // of the newest host; 0 before the first
  uint64_t running_content() const { return running_; }
  uint64_t wanted_content() const { return wanted_; }
  uint64_t good_content() const { return good_; }
  uint64_t failed_content() const { return failed_; }
  uint64_t restarts() const { return restarts_; }
  uint64_t start_failures() const { return start_failures_; }
  uint64_t next_start_ns() const { return state_ == State::kBackingOff ? timer_ns_ : 0; }
  bh_end last_end() const { return last_end_; }

 private:
  using Actions = std::vector<ActionItem>;
  bool HasHost() const;
  bool OnProbation() const { return running_ != good_; }
  void SetTimer(Actions& actions, uint64_t at_ns);
  void Spawn(Actions& actions, uint64_t now_ns);
  void Kill(Actions& actions, bh_end why);
  void Drain(Actions& actions, uint64_t now_ns);
  void OnWish(const Event& event, uint64_t now_ns, Actions& actions);
  void OnStarted(uint64_t now_ns, Actions& actions);
  void OnExit(bh_end end, uint64_t chance, uint64_t now_ns, Actions& actions);
  void OnTimer(uint64_t now_ns, Actions& actions);

  const LifecycleLimits limits_;
  RestartBudget service_budget_;
  RestartBudget start_budget_;
  State state_ = State::kStopped;
  bool wants_service_ = false;
  uint32_t generation_;
  bool begun_ = false;  // the shim was told of this generation
  bh_end kill_why_ = BH_END_KILLED;
  bh_start reason_ = BH_START_COLD;
  uint64_t serving_since_ns_ = 0;
  uint64_t timer_ns_ = 0;
  uint64_t running_;
  uint64_t wanted_;
  uint64_t good_;
  uint64_t failed_ = 0;
  uint64_t restarts_ = 0;
  uint64_t start_failures_ = 0;
  bh_end last_end_ = BH_END_STOPPED;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_LIFECYCLE_H_
