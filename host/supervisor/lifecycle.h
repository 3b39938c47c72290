// SPDX-License-Identifier: Apache-2.0
//
// Lifecycle: every decision about one driver's hosts. A pure state machine: what has happened comes
// in as an event with the time, what is to be done goes out as actions, and nothing else is
// touched.
//
// A driver has a session for each role, each with at most one host:
//   active    serves the channel
//   standby   started, serves nothing; runs the release that the active one should run, and takes
//             over from it when new content comes
//   canary    started, serves nothing; runs a release under trial, once: its first failure ends it
//
// States are named for what they wait for; what is wanted is kept apart from the state.
//
//   Stopped ─ start ─▶ AwaitingSpawn ─ spawned ─▶ AwaitingHello ─ hello ─▶ AwaitingStarted
//                         ▲                            │ late                │ late   │ started
//                         │                            ▼                     ▼        │
//   BackingOff ─ timer ───┤                       AwaitingExit ◀─────────────┘        │
//   Quarantined ─ lift, ──┤                         │  ▲   ▲                          ▼
//             new release │          exited         │  │   └─ hung, ── active: AwaitingBegin ─
//             begun
//                         ├─────────────────────────┘  │      hostile    │                   │
//                         │                            │                 ▼                   ▼
//                         │                            └ late ─ AwaitingDrain ◀─ stop, ── Serving
//                         └───────────── exited ────────────────────┘     new release
//                                                        standby, canary: ready ─▶ Ready
//
// Handover (LifecycleLimits::beside): the host of a new release starts as a standby, beside the one
// that serves. When it is Ready, that one drains; when that has ended, the standby is the active
// host, of a new generation: AwaitingServe, and AwaitingStarted when it was told to serve. Until
// then whatever happens to the active session happens with the release that it has had (`held`),
// and a standby that ends takes its release back.
//
// After an exit: Stopped when no host is wanted; AwaitingSpawn at once or by way of BackingOff; the
// active session of a driver whose budget is used up is Quarantined, and tried again after a time
// that doubles. A fall that would be the last is first looked into: AwaitingCharge, until the shim
// has said over whose calls the driver fell (RestartBudget). A host that was killed from outside is
// replaced and never charged for it, unless it was the first try of a release on probation. Nor is
// one that could not be made once the driver has served: a want of processes or memory is the
// machine's. Before that it is, so that a service that can't start any host says so.
//
// The shim is asked through a link that may be slow: AwaitingSpawn, AwaitingServe and AwaitingBegin
// wait for its answer without a limit, because a slow shim is not the host's fault. Nor is one that
// refuses, or is gone: such a host is replaced, and neither driver nor release is charged.
//
// Releases: `wanted` is what the next host is started with, `good` the newest that stayed healthy
// for its whole probation (or the first ever). A generation with a release that is not good yet is
// on probation: if it fails to start or crashes, the good release is wanted again at once, and
// neither budget is charged. A release that failed is never tried again unless it is given again,
// or acquitted: a call that ends its host in probation is issued again to the good release, and
// when it ends that host as well, the call is to blame.
#ifndef BULKHEAD_HOST_SUPERVISOR_LIFECYCLE_H_
#define BULKHEAD_HOST_SUPERVISOR_LIFECYCLE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "host/supervisor/release.h"
#include "host/supervisor/restart_budget.h"
#include "ipc/shim_link.h"

namespace bulkhead {

enum class Role : uint8_t { kActive, kStandby, kCanary };
inline constexpr int kRoleCount = 3;
inline constexpr std::array<Role, kRoleCount> kRoles = {Role::kActive, Role::kStandby,
                                                        Role::kCanary};
const char* RoleName(Role role);

// X(identifier, text)
#define BULKHEAD_STATES(X)                                                              \
  X(Stopped, "stopped")                                                                 \
  X(AwaitingSpawn, "awaiting spawn") /* the process waits until the shim knows it */    \
  X(AwaitingHello, "awaiting hello")                                                    \
  X(AwaitingServe, "awaiting serve") /* a standby takes over: the shim is asked */      \
  X(AwaitingStarted, "awaiting started")                                                \
  X(AwaitingBegin, "awaiting begin") /* the host started; the shim was told */          \
  X(Serving, "serving")                                                                 \
  X(Ready, "ready") /* a standby or canary that started */                              \
  X(AwaitingDrain, "awaiting drain")                                                    \
  X(AwaitingExit, "awaiting exit")                                                      \
  X(AwaitingCharge, "awaiting charge") /* one fall too many: the shim says over what */ \
  X(BackingOff, "backing off")                                                          \
  X(Quarantined, "quarantined")

enum class State : uint8_t {
#define X(name, text) k##name,
  BULKHEAD_STATES(X)
#undef X
      kCount,
};
inline constexpr int kStateCount = static_cast<int>(State::kCount);
const char* StateName(State state);

#define BULKHEAD_EVENTS(X)                                                                    \
  X(Start, "start")              /* a host is wanted; of a canary: with `release` */          \
  X(Stop, "stop")                /* none is; of the active session: of no role */             \
  X(Lift, "lift")                /* an operator lifts the quarantine */                       \
  X(Update, "update")            /* put `release` in force */                                 \
  X(Spawned, "spawned")          /* the process runs */                                       \
  X(SpawnFailed, "spawn failed") /* there is no process */                                    \
  X(Unprepared, "unprepared")    /* the shim did not prepare for the process */               \
  X(Hello, "hello")              /* the host runs */                                          \
  X(Ready, "ready")              /* its driver started; it waits until it is told to serve */ \
  X(Told, "told")                /* it was told to serve */                                   \
  X(Started, "started")          /* its driver started, and workers take calls */             \
  X(StartFailed, "start failed") /* its driver did not; the host will exit */                 \
  X(Begun, "begun")              /* the shim asks the host from now on */                     \
  X(BeginFailed, "begin failed") /* the shim refused; `retry`: it can't be reached now */     \
  X(Exited, "exited")            /* the host ended; `end` as bh_end_of_exit() says */         \
  X(Ended, "ended")              /* the shim knows that; `in_hand` */                         \
  X(Hung, "hung")                /* it missed a call's deadline or its heartbeat */           \
  X(Hostile, "hostile")          /* it broke the protocol */                                  \
  X(Poison, "poison")            /* a call was convicted; `generation` fell over it last */   \
  X(Timer, "timer")              /* the time that was asked for has come */                   \
  X(Restart, "restart")          /* the channel was made again: its host must attach to that */

enum class EventKind : uint8_t {
#define X(name, text) k##name,
  BULKHEAD_EVENTS(X)
#undef X
      kCount,
};
inline constexpr int kEventKindCount = static_cast<int>(EventKind::kCount);
const char* EventKindName(EventKind kind);

struct Event {
  EventKind kind;
  Role role = Role::kActive;
  uint32_t generation = 0;      // of events from Spawned to Hostile
  bh_end end = BH_END_CRASHED;  // exited
  ReleaseId release = 0;        // update; start of a canary
  bool retry = false;           // begin failed
  uint64_t chance = 0;          // exited, ended, spawn failed: a random number, for jitter
  bh_in_hand in_hand = {};      // ended: what the host had in hand; of nothing: not known
  uint64_t hung_ns = 0;         // hung: for how long it was waited for; 0: not known
};

enum class ActionKind : uint8_t {
  kSpawn,        // start a host as `generation` with `release`, for `reason`
  kAttach,       // send Attach to it
  kServe,        // the standby is the active host now, as `generation`: tell it to serve
  kBegin,        // tell the shim that `generation` serves
  kEnd,          // tell the shim that `generation` ended by `end`
  kDrain,        // tell the host, and of an active one the shim, to finish what is in hand
  kKill,         // SIGKILL
  kSetTimer,     // one timer for each role: it replaces the one before; at_ns 0: none
  kQuarantine,   // tell the shim that no host will come
  kPardoned,     // it would be quarantined, but each fall was over calls of `user`, or of one more
  kInForce,      // `release` serves
  kRolledBack,   // `release` failed; the good one is wanted again
  kAcquitted,    // `release` had failed over a call that the good one fell over, too; it is wanted
  kGood,         // `release` has stayed healthy for its probation
  kTrialFailed,  // the canary of `release` ended by `end`
  kStoppedNow,   // the role has no host, and none will come by itself
};

struct ActionItem {
  ActionKind kind;
  Role role = Role::kActive;
  uint32_t generation = 0;
  bh_end end = BH_END_STOPPED;
  bh_start reason = BH_START_COLD;
  ReleaseId release = 0;
  uint64_t at_ns = 0;
  uint32_t user = 0;  // as in bh_in_hand.users
};

struct LifecycleLimits {
  bool beside = false;  // the host of a new release starts beside the one that serves
  BudgetLimits service;
  BudgetLimits start;
  // Of hosts that were killed from outside, which proves nothing against driver or release.
  BudgetLimits outside = {.falls_max = kFallsWithoutLimit};
  // A quarantined driver is started again after so long, then after twice as long, and so on; 0:
  // never by itself.
  uint64_t retry_ns = 30'000'000'000;
  uint64_t retry_ns_max = 600'000'000'000;
  uint64_t hello_within_ns = 5'000'000'000;
  uint64_t started_within_ns = 30'000'000'000;
  uint64_t drain_within_ns = 5'000'000'000;
  uint64_t probation_ns = 60'000'000'000;
  // A shim that can't be reached is asked again so often, for so long.
  uint64_t begin_again_ns = 100'000'000;
  uint64_t begin_within_ns = 10'000'000'000;
};

class Lifecycle {
 public:
  // `release`: the first one, taken as good. `last_generation`: under a supervisor before this one;
  // 0 for none.
  Lifecycle(const LifecycleLimits& limits, ReleaseId release, uint32_t last_generation = 0);

  // Of a host that a supervisor before this one has left serving.
  struct Adopted {
    uint32_t generation = 0;
    uint32_t newest_generation = 0;
    ReleaseId running = 0;
    ReleaseId good = 0;
    ReleaseId newest_release = 0;
    uint64_t restarts = 0;
    uint64_t start_failures = 0;
  };
  // Instead of a start: the host serves, and is wanted. A release that was on probation has its
  // whole probation again. Budgets are as new.
  // REQUIRES: nothing has happened yet.
  std::vector<ActionItem> Adopt(const Adopted& left, uint64_t now_ns);

  // The one transition function.
  std::vector<ActionItem> Step(const Event& event, uint64_t now_ns);

  State state(Role role = Role::kActive) const { return At(role).state; }
  bool wants_host(Role role = Role::kActive) const { return Wanted(At(role)); }
  // Of the role's newest host; 0 before the first. Generations are numbered through all roles.
  uint32_t generation(Role role = Role::kActive) const { return At(role).generation; }
  ReleaseId running_release(Role role = Role::kActive) const { return At(role).running; }
  bh_end last_end(Role role = Role::kActive) const { return At(role).last_end; }
  bool HasHost(Role role) const;
  bool Stopped() const;  // every role is
  ReleaseId wanted_release() const { return wanted_; }
  ReleaseId good_release() const { return good_; }
  // Whose first host starts beside the one that serves; 0: none.
  ReleaseId loading_release() const { return handing_over_ ? wanted_ : 0; }
  ReleaseId failed_release() const { return failed_; }
  // Whether it may still start a host of this release, or has one; or was not told of it yet. One
  // that is not needed is needed again when it is given again.
  bool Needs(ReleaseId release) const;
  uint32_t newest_generation() const { return newest_generation_; }
  ReleaseId newest_release() const { return newest_release_; }
  uint64_t restarts() const { return restarts_; }  // of the active session, as the next
  uint64_t start_failures() const { return start_failures_; }
  uint64_t next_start_ns() const {
    return At(Role::kActive).state == State::kBackingOff ? At(Role::kActive).timer_ns : 0;
  }

 private:
  using Actions = std::vector<ActionItem>;

  struct Session {
    Session(Role role_in, const LifecycleLimits& limits, ReleaseId release)
        : role(role_in),
          service(limits.service),
          start(limits.start),
          outside(limits.outside),
          running(release) {}
    Role role;
    RestartBudget service;
    uint32_t charged = 0;  // the generation whose fall `service` was told last
    RestartBudget start;
    RestartBudget outside;
    uint64_t retry_ns = 0;  // the last wait in quarantine; 0: none since it last served
    State state = State::kStopped;
    bool wanted = false;
    uint32_t generation = 0;
    ReleaseId running;
    bool begun = false;  // the shim was told to begin this generation
    bh_end kill_why = BH_END_KILLED;
    bool spared = false;  // it is killed for what the shim did not do
    bh_start reason = BH_START_COLD;
    uint64_t started_ns = 0;  // since when its driver has run
    uint64_t served_ns = 0;   // since when it has served; 0: it does not
    uint64_t hung_ns = 0;     // for how long it was waited for before it was killed
    bool has_served = false;  // a host of this role, ever
    uint64_t timer_ns = 0;
    bh_end last_end = BH_END_STOPPED;
  };

  Session& At(Role role) { return sessions_[static_cast<size_t>(role)]; }
  const Session& At(Role role) const { return sessions_[static_cast<size_t>(role)]; }
  bool Wanted(const Session& session) const {
    return session.wanted || (session.role == Role::kStandby && handing_over_);
  }
  // What the role's next host is started with.
  ReleaseId ReleaseFor(const Session& session) const;
  bool OnProbation() const { return At(Role::kActive).running != good_; }

  static void SetTimer(Session& session, Actions& actions, uint64_t at_ns);
  void Spawn(Session& session, Actions& actions);
  static void Begin(const Session& session, Actions& actions);
  static void Kill(Session& session, Actions& actions, bh_end why);
  void Drain(Session& session, uint64_t now_ns, Actions& actions);
  void Want(Session& session, const Event& event, uint64_t now_ns, Actions& actions);
  void SetWanted(ReleaseId release, uint64_t now_ns, Actions& actions);
  void OnReady(Session& session, uint64_t now_ns, Actions& actions);
  bool StandbyCanTakeOver() const;
  void TakeOver(uint64_t now_ns, Actions& actions);
  void OnStarted(Session& session, uint64_t now_ns, Actions& actions);
  void OnBeginFailed(Session& session, bool retry, uint64_t now_ns, Actions& actions);
  void OnExit(Session& session, bh_end end, uint64_t chance, uint64_t now_ns, Actions& actions);
  bool ServesForLong(const Session& session, uint64_t now_ns) const;
  void OnSpawnFailed(Session& session, uint64_t chance, uint64_t now_ns, Actions& actions);
  void OnActiveExit(Session& session, bh_end end, bool in_service, uint64_t chance, uint64_t now_ns,
                    Actions& actions);
  void StartAgain(Session& session, RestartBudget& budget, uint64_t chance, uint64_t now_ns,
                  Actions& actions);
  void OnEnded(Session& session, const Event& event, uint64_t now_ns, Actions& actions);
  void Quarantine(Session& session, uint64_t now_ns, Actions& actions);
  void StartAt(Session& session, uint64_t at_ns, uint64_t now_ns, Actions& actions);
  void OnTimer(Session& session, Actions& actions);

  const LifecycleLimits limits_;
  std::array<Session, kRoleCount> sessions_;
  uint32_t newest_generation_;
  ReleaseId newest_release_;  // that it was told of
  ReleaseId wanted_;
  ReleaseId good_;
  ReleaseId failed_ = 0;
  // A host of the failed release crashed in service (fallen_), and this one (comparing_) of the
  // good release gets the call; 0: none. kNextHost: it said nothing about it, and its successor
  // does.
  static constexpr uint32_t kNextHost = UINT32_MAX;
  uint32_t fallen_ = 0;
  uint32_t comparing_ = 0;
  ReleaseId acquitted_ = 0;  // the last one
  ReleaseId trial_ = 0;      // the canary's
  bool handing_over_ = false;
  ReleaseId held_ = 0;  // while handing over: the active session's
  uint64_t restarts_ = 0;
  uint64_t start_failures_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_LIFECYCLE_H_
