// SPDX-License-Identifier: Apache-2.0
//
// The life cycle: a table with a row for every state and event, scripts of what must follow what,
// and random histories in which invariants are checked after each step. A history replays from its
// seed:
//   BULKHEAD_SEED=17 BULKHEAD_HISTORIES=1 lifecycle_test
#include "host/supervisor/lifecycle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace bulkhead {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;

bool Has(const std::vector<ActionItem>& actions, ActionKind kind) {
  return std::any_of(actions.begin(), actions.end(),
                     [kind](const ActionItem& action) { return action.kind == kind; });
}

LifecycleLimits Beside(bool beside) {
  LifecycleLimits limits;
  limits.beside = beside;
  return limits;
}

// Where a standby of release 3 takes over.
Lifecycle InAwaitingServe() {
  Lifecycle life(Beside(true), 1);
  const auto step = [&life](Role role, EventKind kind, bh_end end = BH_END_CRASHED) {
    life.Step({.kind = kind, .role = role, .generation = life.generation(role), .end = end},
              kSecond);
  };
  for (const EventKind kind : {EventKind::kStart, EventKind::kSpawned, EventKind::kHello,
                               EventKind::kStarted, EventKind::kBegun}) {
    step(Role::kActive, kind);
  }
  life.Step({.kind = EventKind::kUpdate, .release = 3}, kSecond);
  for (const EventKind kind : {EventKind::kSpawned, EventKind::kHello, EventKind::kReady}) {
    step(Role::kStandby, kind);
  }
  step(Role::kActive, EventKind::kExited, BH_END_STOPPED);
  return life;
}

// Brings the session of a role of a fresh life cycle with release 1 to a state.
Lifecycle In(Role role, State state) {
  Lifecycle life(LifecycleLimits(), 1);
  const auto step = [&life, role](EventKind kind, bh_end end = BH_END_CRASHED) {
    life.Step({.kind = kind, .role = role, .generation = life.generation(role), .end = end},
              kSecond);
  };
  const EventKind started = role == Role::kActive ? EventKind::kStarted : EventKind::kReady;
  const auto start = [&] {
    for (const EventKind kind : {EventKind::kSpawned, EventKind::kHello, started}) step(kind);
    step(EventKind::kBegun);
  };
  if (state == State::kStopped) return life;
  step(EventKind::kStart);
  if (state == State::kAwaitingServe) return InAwaitingServe();
  for (const EventKind kind :
       {EventKind::kSpawned, EventKind::kHello, started, EventKind::kBegun}) {
    if (life.state(role) == state) return life;
    step(kind);
  }
  if (life.state(role) == state) return life;
  if (state == State::kAwaitingDrain) {
    step(EventKind::kStop);
  } else if (state == State::kAwaitingExit) {
    step(EventKind::kHung);
  } else {
    uint64_t now_ns = kSecond;
    for (int falls = state == State::kBackingOff ? 2 : 5; falls > 0; --falls) {
      if (life.state(role) == State::kBackingOff) {
        now_ns += kSecond;
        life.Step({.kind = EventKind::kTimer, .role = role}, now_ns);
      }
      start();
      step(EventKind::kExited);
    }
    if (state == State::kQuarantined) step(EventKind::kEnded);
  }
  return life;
}
Lifecycle In(State state) { return In(Role::kActive, state); }

// What state follows an event, by rows of states; columns in the order of EventKind.
using Table = std::map<State, std::vector<State>>;
constexpr State kSame = State::kCount;  // nothing changes

void CheckTable(Role role, const Table& table) {
  for (const auto& [state, row] : table) {
    ASSERT_EQ(row.size(), size_t{kEventKindCount}) << StateName(state);
    for (int kind = 0; kind < kEventKindCount; ++kind) {
      Lifecycle life = In(role, state);
      ASSERT_EQ(life.state(role), state) << StateName(life.state(role));
      const auto event = static_cast<EventKind>(kind);
      life.Step({.kind = event, .role = role, .generation = life.generation(role), .release = 2},
                3600 * kSecond);
      const State wanted = row[static_cast<size_t>(kind)];
      EXPECT_EQ(life.state(role), wanted == kSame ? state : wanted)
          << RoleName(role) << ", " << StateName(state) << ", " << EventKindName(event) << ": "
          << StateName(life.state(role));
    }
  }
}

// Short names for the tables.
constexpr State ____ = kSame, Stop = State::kStopped, Spwn = State::kAwaitingSpawn,
                Helo = State::kAwaitingHello, Srve = State::kAwaitingServe,
                Strt = State::kAwaitingStarted, Begn = State::kAwaitingBegin,
                Serv = State::kServing, Redy = State::kReady, Dran = State::kAwaitingDrain,
                Exit = State::kAwaitingExit, Quar = State::kQuarantined;

TEST(Lifecycle, TheTableHasEveryStateAndEvent) {
  // clang-format off
  const Table table = {
    //        start stop  lift  updat spawn spFai unpre hello ready told  start stFai begun beFai exitd ended hung  hosti poisn timer resta
    {Stop,   {Spwn, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____}},
    {Spwn,   {____, Exit, ____, Exit, Helo, Spwn, Exit, ____, ____, ____, ____, ____, ____, ____, Spwn, ____, Exit, Exit, ____, ____, Exit}},
    {Helo,   {____, Exit, ____, Exit, ____, ____, ____, Strt, ____, ____, ____, ____, ____, ____, Spwn, ____, Exit, Exit, ____, Exit, Exit}},
    {Srve,   {____, Exit, ____, ____, ____, ____, Exit, ____, ____, Strt, ____, ____, ____, ____, Spwn, ____, Exit, Exit, ____, ____, Exit}},
    {Strt,   {____, Exit, ____, Exit, ____, ____, ____, ____, ____, ____, Begn, Exit, ____, ____, Spwn, ____, Exit, Exit, ____, Exit, Exit}},
    {Begn,   {____, Dran, ____, Dran, ____, ____, ____, ____, ____, ____, ____, ____, Serv, Exit, Spwn, ____, Exit, Exit, ____, ____, Exit}},
    {Serv,   {____, Dran, ____, Dran, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Spwn, ____, Exit, Exit, ____, ____, Exit}},
    {Dran,   {____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Stop, ____, Exit, Exit, ____, Exit, Exit}},
    {Exit,   {____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Spwn, ____, ____, ____, ____, ____, ____}},
    {State::kAwaitingCharge,
             {____, Stop, Spwn, Spwn, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Quar, ____, ____, ____, ____, ____}},
    {State::kBackingOff,
             {____, Stop, Spwn, Spwn, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Spwn, ____}},
    {State::kQuarantined,
             {____, Stop, Spwn, Spwn, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Spwn, ____}},
  };
  // clang-format on
  ASSERT_EQ(table.size() + 1, size_t{kStateCount}) << "an active host is never Ready";
  CheckTable(Role::kActive, table);
}

TEST(Lifecycle, TheTableOfAStandbyHasEveryStateAndEvent) {
  // clang-format off
  const Table table = {
    //        start stop  lift  updat spawn spFai unpre hello ready told  start stFai begun beFai exitd ended hung  hosti poisn timer resta
    {Stop,   {Spwn, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____}},
    {Spwn,   {____, Exit, ____, Exit, Helo, Spwn, Exit, ____, ____, ____, ____, ____, ____, ____, Spwn, ____, Exit, Exit, ____, ____, ____}},
    {Helo,   {____, Exit, ____, Exit, ____, ____, ____, Strt, ____, ____, ____, ____, ____, ____, Spwn, ____, Exit, Exit, ____, Exit, ____}},
    {Strt,   {____, Exit, ____, Exit, ____, ____, ____, ____, Redy, ____, ____, Exit, ____, ____, Spwn, ____, Exit, Exit, ____, Exit, ____}},
    {Redy,   {____, Dran, ____, Dran, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Spwn, ____, Exit, Exit, ____, ____, ____}},
    {Dran,   {____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Stop, ____, Exit, Exit, ____, Exit, ____}},
    {Exit,   {____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Spwn, ____, ____, ____, ____, ____, ____}},
    {State::kBackingOff,
             {____, Stop, ____, Spwn, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Spwn, ____}},
    {State::kQuarantined,
             {____, Stop, ____, Spwn, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____, Spwn, ____}},
  };
  // clang-format on
  ASSERT_EQ(table.size() + 4, size_t{kStateCount}) << "a standby is never begun";
  CheckTable(Role::kStandby, table);
}

TEST(Lifecycle, AStandbyStartsAndServesNothing) {
  Lifecycle life = In(State::kServing);
  std::vector<ActionItem> all;
  const auto step = [&](Event event) {
    event.role = Role::kStandby;
    event.generation = life.generation(Role::kStandby);
    for (const ActionItem& action : life.Step(event, kSecond)) all.push_back(action);
  };
  for (const EventKind kind :
       {EventKind::kStart, EventKind::kSpawned, EventKind::kHello, EventKind::kReady}) {
    step({.kind = kind});
  }
  EXPECT_EQ(life.state(Role::kStandby), State::kReady);
  EXPECT_EQ(life.generation(Role::kStandby), 2u) << "numbered through all roles";
  EXPECT_TRUE(Has(all, ActionKind::kAttach));
  EXPECT_FALSE(Has(all, ActionKind::kBegin));
  EXPECT_EQ(life.state(), State::kServing);
  // New content is for both.
  life.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  EXPECT_EQ(life.state(), State::kAwaitingDrain);
  EXPECT_EQ(life.state(Role::kStandby), State::kAwaitingDrain);
  step({.kind = EventKind::kExited, .end = BH_END_STOPPED});
  EXPECT_EQ(life.running_release(Role::kStandby), 2u);
}

TEST(Lifecycle, ACanaryRunsItsReleaseOnce) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kStart, .role = Role::kCanary, .release = 7}, kSecond);
  EXPECT_EQ(life.running_release(Role::kCanary), 7u);
  const auto actions = life.Step({.kind = EventKind::kExited,
                                  .role = Role::kCanary,
                                  .generation = life.generation(Role::kCanary)},
                                 kSecond);
  EXPECT_TRUE(Has(actions, ActionKind::kTrialFailed));
  EXPECT_EQ(life.state(Role::kCanary), State::kStopped);
  EXPECT_FALSE(life.wants_host(Role::kCanary));
  EXPECT_EQ(life.state(), State::kServing);
  EXPECT_EQ(life.failed_release(), 0u) << "nothing was in force";
}

// A shim that can't be reached now is not the host's fault.
TEST(Lifecycle, ABeginThatCanBeTriedAgainIs) {
  Lifecycle life = In(State::kAwaitingBegin);
  const LifecycleLimits limits;
  uint64_t now_ns = kSecond;
  int tries = 0;
  while (life.state() == State::kAwaitingBegin && tries < 1000) {
    life.Step({.kind = EventKind::kBeginFailed, .generation = 1, .retry = true}, now_ns);
    if (life.state() != State::kAwaitingBegin) break;
    now_ns += limits.begin_again_ns;
    EXPECT_TRUE(Has(life.Step({.kind = EventKind::kTimer}, now_ns), ActionKind::kBegin));
    ++tries;
  }
  EXPECT_EQ(life.state(), State::kAwaitingExit);
  EXPECT_EQ(static_cast<uint64_t>(tries), limits.begin_within_ns / limits.begin_again_ns);
}

TEST(Lifecycle, EachEventAndStateHasANameOfItsOwn) {
  std::set<std::string> events, states;
  for (int kind = 0; kind < kEventKindCount; ++kind) {
    ASSERT_NE(EventKindName(static_cast<EventKind>(kind)), nullptr) << kind;
    events.insert(EventKindName(static_cast<EventKind>(kind)));
  }
  for (int state = 0; state < kStateCount; ++state) {
    ASSERT_NE(StateName(static_cast<State>(state)), nullptr) << state;
    states.insert(StateName(static_cast<State>(state)));
  }
  EXPECT_EQ(events.size(), size_t{kEventKindCount});
  EXPECT_EQ(states.size(), size_t{kStateCount});
}

TEST(Lifecycle, IgnoresHostsThatAreNotTheNewest) {
  for (const EventKind kind : {EventKind::kHello, EventKind::kStarted, EventKind::kExited,
                               EventKind::kHung, EventKind::kHostile, EventKind::kSpawnFailed,
                               EventKind::kSpawned, EventKind::kBegun, EventKind::kBeginFailed}) {
    Lifecycle life = In(State::kServing);
    EXPECT_TRUE(life.Step({.kind = kind, .generation = life.generation() + 1}, kSecond).empty());
    EXPECT_EQ(life.state(), State::kServing);
  }
}

TEST(Lifecycle, ContentThatFailsToStartIsTakenBackWithoutACharge) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  EXPECT_EQ(life.state(), State::kAwaitingDrain);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  EXPECT_EQ(life.running_release(), 2u);
  life.Step({.kind = EventKind::kSpawned, .generation = 2}, kSecond);
  life.Step({.kind = EventKind::kHello, .generation = 2}, kSecond);
  const auto actions = life.Step({.kind = EventKind::kExited, .generation = 2}, kSecond);
  EXPECT_TRUE(Has(actions, ActionKind::kRolledBack));
  EXPECT_EQ(life.state(), State::kAwaitingSpawn) << "at once";
  EXPECT_EQ(life.running_release(), 1u);
  EXPECT_EQ(life.failed_release(), 2u);
  EXPECT_EQ(life.good_release(), 1u);
}

TEST(Lifecycle, ContentIsGoodAfterItsProbation) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  life.Step({.kind = EventKind::kSpawned, .generation = 2}, kSecond);
  life.Step({.kind = EventKind::kHello, .generation = 2}, kSecond);
  life.Step({.kind = EventKind::kStarted, .generation = 2}, kSecond);
  life.Step({.kind = EventKind::kBegun, .generation = 2}, kSecond);
  EXPECT_EQ(life.good_release(), 1u);
  EXPECT_TRUE(Has(life.Step({.kind = EventKind::kTimer}, 61 * kSecond), ActionKind::kGood));
  EXPECT_EQ(life.good_release(), 2u);
}

TEST(Lifecycle, FiveCrashesInTenSecondsQuarantine) {
  Lifecycle life = In(State::kQuarantined);
  EXPECT_TRUE(life.wants_host());
  EXPECT_EQ(life.generation(), 5u);
}

// The shim's word about the host that fell last.
std::vector<ActionItem> Ended(Lifecycle& life, uint64_t now_ns, uint32_t user = 0) {
  return life.Step({.kind = EventKind::kEnded,
                    .generation = life.generation(),
                    .in_hand = {.count = user == 0 ? 0u : 1u, .users = {user}}},
                   now_ns);
}

// The role's host of a life cycle that has just spawned one serves now.
void Serve(Lifecycle& life, uint64_t now_ns) {
  for (const EventKind kind :
       {EventKind::kSpawned, EventKind::kHello, EventKind::kStarted, EventKind::kBegun}) {
    life.Step({.kind = kind, .generation = life.generation()}, now_ns);
  }
}

// Any user can make files without number over which a driver falls.
TEST(Lifecycle, FallsOverOneUsersCallsNeverQuarantineAndAreMadeUpForWithinASecond) {
  constexpr uint32_t kUser = 1001, kRoot = 1;
  Lifecycle life = In(State::kServing);
  const LifecycleLimits limits;
  uint64_t now_ns = kSecond;
  const auto fall = [&](uint32_t user) {
    const uint32_t fallen = life.generation();
    life.Step({.kind = EventKind::kExited, .generation = fallen}, now_ns);
    const auto actions = life.Step(
        {.kind = EventKind::kEnded, .generation = fallen, .in_hand = {.count = 1, .users = {user}}},
        now_ns);
    if (life.state() == State::kBackingOff) {
      EXPECT_LE(life.next_start_ns(), now_ns + limits.service.delay_ns_max * 5 / 4);
      now_ns = life.next_start_ns();
      life.Step({.kind = EventKind::kTimer}, now_ns);
    }
    return actions;
  };
  for (int i = 1; i < 1000; ++i) {
    const auto actions = fall(kUser);
    ASSERT_EQ(Has(actions, ActionKind::kPardoned), i >= 5) << i;
    ASSERT_FALSE(Has(actions, ActionKind::kQuarantine)) << i;
    ASSERT_EQ(life.state(), State::kAwaitingSpawn) << i;
    Serve(life, now_ns);
  }
  EXPECT_TRUE(Has(fall(kRoot), ActionKind::kQuarantine)) << "it falls over others' files, too";
  EXPECT_EQ(life.state(), State::kQuarantined);
}

// The shim is slow, and says over what the driver fell when the next host serves already.
TEST(Lifecycle, WhatTheShimSaysOfAHostBeforeTheLastIsOfNoAccount) {
  constexpr uint32_t kUser = 1001;
  Lifecycle life = In(State::kServing);
  for (int i = 1; i <= 5; ++i) {
    life.Step({.kind = EventKind::kExited, .generation = life.generation()}, kSecond);
    if (life.state() == State::kBackingOff) {
      life.Step({.kind = EventKind::kTimer}, life.next_start_ns());
    }
    if (i < 5) Serve(life, kSecond);
  }
  ASSERT_EQ(life.state(), State::kAwaitingCharge);
  life.Step({.kind = EventKind::kEnded,
             .generation = life.generation() - 1,
             .in_hand = {.count = 1, .users = {kUser}}},
            kSecond);
  EXPECT_EQ(life.state(), State::kAwaitingCharge);
  Ended(life, kSecond, kUser);
  EXPECT_EQ(life.state(), State::kQuarantined);
}

// Each dies a moment after it serves; the time is that of the restarts.
TEST(Lifecycle, KillsFromOutsideNeverQuarantineAndAreMadeUpForWithinASecond) {
  Lifecycle life = In(State::kServing);
  const LifecycleLimits limits;
  uint64_t now_ns = kSecond;
  for (int kill = 0; kill < 1000; ++kill) {
    const uint64_t killed_ns = now_ns;
    // The kernel's, for want of memory, are held against calls, and not against the driver.
    const bh_end end = kill % 2 == 0 ? BH_END_KILLED : BH_END_STARVED;
    life.Step({.kind = EventKind::kExited, .generation = life.generation(), .end = end}, now_ns);
    ASSERT_NE(life.state(), State::kQuarantined) << kill;
    if (life.state() == State::kBackingOff) {
      now_ns = life.next_start_ns();
      life.Step({.kind = EventKind::kTimer}, now_ns);
    }
    ASSERT_EQ(life.state(), State::kAwaitingSpawn);
    ASSERT_LE(now_ns - killed_ns, limits.outside.delay_ns_max);
    Serve(life, now_ns);
    ASSERT_EQ(life.state(), State::kServing);
  }
  // And none of them counts with the crashes.
  for (int crash = 0; crash < 4; ++crash) {
    life.Step({.kind = EventKind::kExited, .generation = life.generation()}, now_ns);
    ASSERT_NE(life.state(), State::kQuarantined) << crash;
    if (life.state() == State::kBackingOff) {
      life.Step({.kind = EventKind::kTimer}, life.next_start_ns());
    }
    Serve(life, now_ns);
  }
}

// Each hang takes the deadline of a call, and five of them more than the budget's window.
TEST(Lifecycle, ADriverThatHangsAtEachCallIsQuarantined) {
  constexpr uint64_t kDeadline = 5 * kSecond;
  Lifecycle life = In(State::kServing);
  uint64_t now_ns = kSecond;
  for (int hang = 1; hang <= 5; ++hang) {
    now_ns += kDeadline;
    life.Step({.kind = EventKind::kHung, .generation = life.generation(), .hung_ns = kDeadline},
              now_ns);
    life.Step({.kind = EventKind::kExited, .generation = life.generation(), .end = BH_END_KILLED},
              now_ns);
    if (life.state() == State::kAwaitingCharge) Ended(life, now_ns);
    ASSERT_EQ(life.state() == State::kQuarantined, hang == 5) << hang;
    if (life.state() == State::kBackingOff) {
      now_ns = life.next_start_ns();
      life.Step({.kind = EventKind::kTimer}, now_ns);
    }
    if (hang < 5) Serve(life, now_ns);
  }
}

// No process is to be had for a minute: the driver is not charged, and is back soon after.
TEST(Lifecycle, AHostThatCantBeMadeIsTriedAgainForEverOnceTheDriverHasServed) {
  Lifecycle life = In(State::kServing);
  const LifecycleLimits limits;
  uint64_t now_ns = kSecond;
  life.Step({.kind = EventKind::kExited, .generation = life.generation(), .end = BH_END_KILLED},
            now_ns);
  while (now_ns < 60 * kSecond) {
    ASSERT_EQ(life.state(), State::kAwaitingSpawn);
    life.Step({.kind = EventKind::kSpawnFailed, .generation = life.generation()}, now_ns);
    if (life.state() == State::kAwaitingSpawn) continue;
    ASSERT_EQ(life.state(), State::kBackingOff);
    ASSERT_LE(life.next_start_ns(), now_ns + limits.outside.delay_ns_max * 5 / 4);
    now_ns = life.next_start_ns();
    life.Step({.kind = EventKind::kTimer}, now_ns);
  }
  Serve(life, now_ns);
  EXPECT_EQ(life.state(), State::kServing);
  EXPECT_GT(life.start_failures(), 10u);
}

TEST(Lifecycle, AServiceThatCantMakeItsFirstHostGivesUp) {
  Lifecycle life = In(State::kAwaitingSpawn);
  uint64_t now_ns = kSecond;
  int failures = 0;
  while (life.state() != State::kQuarantined && failures < 100) {
    life.Step({.kind = EventKind::kSpawnFailed, .generation = life.generation()}, now_ns);
    ++failures;
    if (life.state() != State::kBackingOff) continue;
    now_ns = life.next_start_ns();
    life.Step({.kind = EventKind::kTimer}, now_ns);
  }
  EXPECT_EQ(failures, 5);
}

TEST(Lifecycle, AHostOfNewContentThatCantBeMadeTakesNothingBack) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  ASSERT_EQ(life.state(), State::kAwaitingSpawn);
  const auto failed = life.Step({.kind = EventKind::kSpawnFailed, .generation = 2}, kSecond);
  EXPECT_FALSE(Has(failed, ActionKind::kRolledBack));
  EXPECT_EQ(life.wanted_release(), 2u);
}

// The first host of new content crashes over a call; the good one has it now.
Lifecycle RolledBack() {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  Serve(life, kSecond);
  EXPECT_TRUE(Has(life.Step({.kind = EventKind::kExited, .generation = 2}, 2 * kSecond),
                  ActionKind::kRolledBack));
  Serve(life, 2 * kSecond);
  EXPECT_EQ(life.running_release(), 1u);
  return life;
}

TEST(Lifecycle, ContentIsNotTakenBackForACallThatTheOldOneFallsOverToo) {
  Lifecycle life = RolledBack();
  life.Step({.kind = EventKind::kExited, .generation = 3}, 2 * kSecond);
  const auto actions = life.Step({.kind = EventKind::kPoison, .generation = 3}, 2 * kSecond);
  EXPECT_TRUE(Has(actions, ActionKind::kAcquitted));
  EXPECT_EQ(life.wanted_release(), 2u);
  EXPECT_EQ(life.failed_release(), 0u);
  // A host of the old one was on its way.
  life.Step({.kind = EventKind::kExited, .generation = 4, .end = BH_END_KILLED}, 2 * kSecond);
  EXPECT_EQ(life.state(), State::kAwaitingSpawn);
  EXPECT_EQ(life.running_release(), 2u);
  Serve(life, 2 * kSecond);
  EXPECT_EQ(life.good_release(), 1u) << "it is on probation again";
  life.Step({.kind = EventKind::kTimer}, 2 * kSecond + LifecycleLimits().probation_ns);
  EXPECT_EQ(life.good_release(), 2u);
}

TEST(Lifecycle, WhatIsConvictedBeforeTheOldHostHasEndedAcquitsToo) {
  Lifecycle life = RolledBack();
  life.Step({.kind = EventKind::kPoison, .generation = 3}, 2 * kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 3}, 2 * kSecond);
  EXPECT_EQ(life.running_release(), 2u);
}

// The next one of the good content gets the call.
TEST(Lifecycle, AHostThatSaysNothingAboutTheCallIsNotTheOneThatIsCompared) {
  Lifecycle killed = RolledBack();
  killed.Step({.kind = EventKind::kExited, .generation = 3, .end = BH_END_KILLED}, 2 * kSecond);
  Serve(killed, 2 * kSecond);
  killed.Step({.kind = EventKind::kExited, .generation = 4}, 2 * kSecond);
  EXPECT_TRUE(Has(killed.Step({.kind = EventKind::kPoison, .generation = 4}, 2 * kSecond),
                  ActionKind::kAcquitted));

  for (const EventKind failed : {EventKind::kSpawnFailed, EventKind::kExited}) {
    Lifecycle life = RolledBack();
    life.Step({.kind = EventKind::kExited, .generation = 3, .end = BH_END_KILLED}, 2 * kSecond);
    life.Step({.kind = failed, .generation = 4}, 2 * kSecond);
    if (life.state() == State::kBackingOff) life.Step({.kind = EventKind::kTimer}, 4 * kSecond);
    Serve(life, 4 * kSecond);
    life.Step({.kind = EventKind::kExited, .generation = 5}, 4 * kSecond);
    EXPECT_TRUE(Has(life.Step({.kind = EventKind::kPoison, .generation = 5}, 4 * kSecond),
                    ActionKind::kAcquitted))
        << static_cast<int>(failed);
  }
}

// The shim's answer that it has begun comes after the host's end.
TEST(Lifecycle, AHostThatFallsAtOnceIsComparedToo) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  Serve(life, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 2}, 2 * kSecond);
  for (const EventKind kind : {EventKind::kSpawned, EventKind::kHello, EventKind::kStarted}) {
    life.Step({.kind = kind, .generation = 3}, 2 * kSecond);
  }
  ASSERT_EQ(life.state(), State::kAwaitingBegin);
  life.Step({.kind = EventKind::kExited, .generation = 3}, 2 * kSecond);
  EXPECT_TRUE(Has(life.Step({.kind = EventKind::kPoison, .generation = 3}, 2 * kSecond),
                  ActionKind::kAcquitted));
}

TEST(Lifecycle, AHostThatStarvedOverTheCallSaysSomethingAboutIt) {
  Lifecycle life = RolledBack();
  life.Step({.kind = EventKind::kExited, .generation = 3, .end = BH_END_STARVED}, 2 * kSecond);
  EXPECT_TRUE(Has(life.Step({.kind = EventKind::kPoison, .generation = 3}, 2 * kSecond),
                  ActionKind::kAcquitted));
}

TEST(Lifecycle, OnlyTheCallThatTookItBackAcquitsContent) {
  for (const uint32_t generation : {2u, 4u}) {
    Lifecycle life = RolledBack();
    EXPECT_TRUE(
        life.Step({.kind = EventKind::kPoison, .generation = generation}, 3 * kSecond).empty());
    EXPECT_EQ(life.wanted_release(), 1u);
  }
  Lifecycle given = RolledBack();  // meanwhile other content was put in force
  given.Step({.kind = EventKind::kUpdate, .release = 3}, 2 * kSecond);
  EXPECT_TRUE(given.Step({.kind = EventKind::kPoison, .generation = 3}, 3 * kSecond).empty());
  EXPECT_EQ(given.wanted_release(), 3u);
}

TEST(Lifecycle, AKillFromOutsideTakesNoContentBack) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  Serve(life, kSecond);
  const auto killed =
      life.Step({.kind = EventKind::kExited, .generation = 2, .end = BH_END_KILLED}, 2 * kSecond);
  EXPECT_FALSE(Has(killed, ActionKind::kRolledBack));
  EXPECT_EQ(life.state(), State::kAwaitingSpawn);
  EXPECT_EQ(life.running_release(), 2u);
  EXPECT_EQ(life.failed_release(), 0u);
}

// The kernel kills a host for want of memory by the same signal: what never served has not shown
// that the release can.
TEST(Lifecycle, AKillWhileNewContentStartsTakesItBack) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  life.Step({.kind = EventKind::kSpawned, .generation = 2}, kSecond);
  const auto killed =
      life.Step({.kind = EventKind::kExited, .generation = 2, .end = BH_END_KILLED}, kSecond);
  EXPECT_TRUE(Has(killed, ActionKind::kRolledBack));
  EXPECT_EQ(life.running_release(), 1u);
}

// Our own SIGKILL is not from outside.
TEST(Lifecycle, AHungHostThatWasKilledIsChargedForIt) {
  Lifecycle life = In(State::kServing);
  for (int hang = 0; hang < 5; ++hang) {
    if (life.state() == State::kBackingOff) {
      life.Step({.kind = EventKind::kTimer}, life.next_start_ns());
    }
    if (life.state() == State::kAwaitingSpawn) Serve(life, kSecond);
    life.Step({.kind = EventKind::kHung, .generation = life.generation()}, kSecond);
    life.Step({.kind = EventKind::kExited, .generation = life.generation(), .end = BH_END_KILLED},
              kSecond);
  }
  Ended(life, kSecond);
  EXPECT_EQ(life.state(), State::kQuarantined);
  EXPECT_EQ(life.last_end(), BH_END_HUNG);
}

// A driver that crashes as soon as it serves.
TEST(Lifecycle, AQuarantinedDriverIsTriedAgainLaterAndLater) {
  Lifecycle life = In(State::kQuarantined);
  const LifecycleLimits limits;
  uint64_t wait_ns = limits.retry_ns;
  uint64_t now_ns = kSecond;
  for (int round = 0; round < 10; ++round) {
    now_ns += wait_ns - 1;
    life.Step({.kind = EventKind::kTimer}, now_ns);
    ASSERT_EQ(life.state(), State::kQuarantined) << round;
    life.Step({.kind = EventKind::kTimer}, ++now_ns);
    ASSERT_EQ(life.state(), State::kAwaitingSpawn) << round;
    while (life.state() != State::kQuarantined) {
      if (life.state() == State::kBackingOff) {
        life.Step({.kind = EventKind::kTimer}, life.next_start_ns());
      }
      Serve(life, now_ns);
      life.Step({.kind = EventKind::kExited, .generation = life.generation()}, now_ns);
      if (life.state() == State::kAwaitingCharge) Ended(life, now_ns);
    }
    wait_ns = std::min(2 * wait_ns, limits.retry_ns_max);
  }
  EXPECT_EQ(wait_ns, limits.retry_ns_max);
  // Service forgives.
  life.Step({.kind = EventKind::kTimer}, now_ns += wait_ns);
  Serve(life, now_ns);
  now_ns += limits.service.window_ns;
  for (int crash = 0; crash < 5; ++crash) {
    life.Step({.kind = EventKind::kExited, .generation = life.generation()}, now_ns);
    if (life.state() == State::kBackingOff) {
      life.Step({.kind = EventKind::kTimer}, life.next_start_ns());
    }
    Serve(life, now_ns);
  }
  Ended(life, now_ns);
  ASSERT_EQ(life.state(), State::kQuarantined);
  life.Step({.kind = EventKind::kTimer}, now_ns + limits.retry_ns);
  EXPECT_EQ(life.state(), State::kAwaitingSpawn) << "after the first wait again";
}

TEST(Lifecycle, AQuarantineIsForGoodWhereTheOperatorSaysSo) {
  LifecycleLimits limits;
  limits.retry_ns = 0;
  limits.service.falls_max = 1;
  Lifecycle life(limits, 1);
  life.Step({.kind = EventKind::kStart}, kSecond);
  Serve(life, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 1}, kSecond);
  Ended(life, kSecond);
  ASSERT_EQ(life.state(), State::kQuarantined);
  life.Step({.kind = EventKind::kTimer}, 365 * 24 * 3600 * kSecond);
  EXPECT_EQ(life.state(), State::kQuarantined);
  life.Step({.kind = EventKind::kLift}, 365 * 24 * 3600 * kSecond);
  EXPECT_EQ(life.state(), State::kAwaitingSpawn);
}

// ---- A new release starts beside the host that serves

// Release 1 serves, and the host of release 2 starts.
class Handover {
 public:
  explicit Handover(ReleaseId release = 2) {
    Do({.kind = EventKind::kStart});
    Serve();
    if (release != 0) Do({.kind = EventKind::kUpdate, .release = release});
  }
  std::vector<ActionItem> Do(Event event) { return life.Step(event, now_ns); }
  std::vector<ActionItem> Of(Role role, EventKind kind, bh_end end = BH_END_CRASHED) {
    return Do({.kind = kind, .role = role, .generation = life.generation(role), .end = end});
  }
  // The newest active host, from its process to its first call.
  void Serve() {
    for (const EventKind kind :
         {EventKind::kSpawned, EventKind::kHello, EventKind::kStarted, EventKind::kBegun}) {
      Of(Role::kActive, kind);
    }
  }
  // So often, and it serves in between.
  void Crash(int times) {
    for (int i = 1; i <= times; ++i) {
      Of(Role::kActive, EventKind::kExited);
      if (i == times) return;
      now_ns = std::max(now_ns, life.next_start_ns());
      Do({.kind = EventKind::kTimer});
      Serve();
    }
  }
  std::vector<ActionItem> StandbyIsReady() {
    Of(Role::kStandby, EventKind::kSpawned);
    Of(Role::kStandby, EventKind::kHello);
    return Of(Role::kStandby, EventKind::kReady);
  }
  void Expect(State active, State standby) const {
    EXPECT_EQ(life.state(), active) << StateName(life.state());
    EXPECT_EQ(life.state(Role::kStandby), standby) << StateName(life.state(Role::kStandby));
  }

  Lifecycle life{Beside(true), 1};
  uint64_t now_ns = kSecond;
};

TEST(Lifecycle, TheOldHostServesUntilTheNewOneIsReady) {
  Handover over;
  over.Expect(State::kServing, State::kAwaitingSpawn);
  EXPECT_EQ(over.life.running_release(), 1u);
  EXPECT_EQ(over.life.running_release(Role::kStandby), 2u);
  over.now_ns += 29 * kSecond;
  EXPECT_TRUE(Has(over.StandbyIsReady(), ActionKind::kDrain));
  over.Expect(State::kAwaitingDrain, State::kReady);
  const auto actions = over.Of(Role::kActive, EventKind::kExited, BH_END_STOPPED);
  EXPECT_TRUE(Has(actions, ActionKind::kEnd));
  EXPECT_TRUE(Has(actions, ActionKind::kServe));
  EXPECT_FALSE(Has(actions, ActionKind::kSpawn));
  over.Expect(State::kAwaitingServe, State::kStopped);
  EXPECT_EQ(over.life.generation(), 3u) << "the standby was the second";
  over.now_ns += 3600 * kSecond;
  EXPECT_TRUE(over.Do({.kind = EventKind::kTimer}).empty()) << "a slow shim is not its fault";
  over.Of(Role::kActive, EventKind::kTold);
  over.Expect(State::kAwaitingStarted, State::kStopped);
  EXPECT_TRUE(Has(over.Of(Role::kActive, EventKind::kStarted), ActionKind::kBegin));
  EXPECT_TRUE(Has(over.Of(Role::kActive, EventKind::kBegun), ActionKind::kInForce));
  EXPECT_EQ(over.life.running_release(), 2u);
  EXPECT_EQ(over.life.good_release(), 1u) << "on probation, as any new one";
  EXPECT_FALSE(over.life.wants_host(Role::kStandby));
}

// The host of new content that does not start must not be the only one.
TEST(Lifecycle, ANewHostStartsBesideOneThatIsOnItsWayBack) {
  for (const auto& [crashes, state] : {std::pair(1, State::kAwaitingSpawn),
                                       {2, State::kBackingOff},
                                       {5, State::kAwaitingCharge}}) {
    Handover over(0);
    over.Crash(crashes);
    ASSERT_EQ(over.life.state(), state);
    over.Do({.kind = EventKind::kUpdate, .release = 2});
    over.Expect(State::kAwaitingSpawn, State::kAwaitingSpawn);
    EXPECT_EQ(over.life.running_release(), 1u);
    EXPECT_EQ(over.life.running_release(Role::kStandby), 2u);
    over.Serve();
    over.Expect(State::kServing, State::kAwaitingSpawn);
    over.StandbyIsReady();
    over.Expect(State::kAwaitingDrain, State::kReady);
    EXPECT_TRUE(
        Has(over.Of(Role::kActive, EventKind::kExited, BH_END_STOPPED), ActionKind::kServe));
  }
}

TEST(Lifecycle, ADriverThatNeverServedOrIsQuarantinedStartsWithNewContentAtOnce) {
  Lifecycle first(Beside(true), 1);
  first.Step({.kind = EventKind::kStart}, kSecond);
  first.Step({.kind = EventKind::kSpawned, .generation = 1}, kSecond);
  first.Step({.kind = EventKind::kUpdate, .release = 2}, kSecond);
  EXPECT_EQ(first.state(), State::kAwaitingExit) << "it makes room for the new one";
  EXPECT_EQ(first.state(Role::kStandby), State::kStopped);
  Handover over(0);
  over.Crash(5);
  Ended(over.life, over.now_ns);
  ASSERT_EQ(over.life.state(), State::kQuarantined);
  over.Do({.kind = EventKind::kUpdate, .release = 2});
  over.Expect(State::kAwaitingSpawn, State::kStopped);
  EXPECT_EQ(over.life.running_release(), 2u);
}

TEST(Lifecycle, ANewHostThatFailsBesideTheOldTakesItsReleaseBackAndNothingElse) {
  for (const bool ready : {false, true}) {
    Handover over;
    if (ready) over.StandbyIsReady();
    const State active = over.life.state();
    const auto actions = over.Of(Role::kStandby, EventKind::kExited);
    EXPECT_TRUE(Has(actions, ActionKind::kRolledBack));
    EXPECT_FALSE(Has(actions, ActionKind::kSpawn));
    over.Expect(active, State::kStopped);
    EXPECT_EQ(over.life.failed_release(), 2u);
    EXPECT_EQ(over.life.wanted_release(), 1u);
    EXPECT_EQ(over.life.restarts(), 0u);
    if (!ready) continue;
    over.Of(Role::kActive, EventKind::kExited, BH_END_STOPPED);  // it drained
    EXPECT_EQ(over.life.state(), State::kAwaitingSpawn);
    EXPECT_EQ(over.life.running_release(), 1u);
  }
}

TEST(Lifecycle, ANewHostThatTakesTooLongBesideTheOldIsEnded) {
  Handover over;
  over.Of(Role::kStandby, EventKind::kSpawned);
  over.Of(Role::kStandby, EventKind::kHello);
  over.now_ns += LifecycleLimits().started_within_ns;
  EXPECT_TRUE(Has(over.Of(Role::kStandby, EventKind::kTimer), ActionKind::kKill));
  EXPECT_TRUE(
      Has(over.Of(Role::kStandby, EventKind::kExited, BH_END_KILLED), ActionKind::kRolledBack));
  EXPECT_EQ(over.life.state(), State::kServing);
}

TEST(Lifecycle, AnOldHostThatCrashesMeanwhileIsReplacedByItsOwnKind) {
  Handover over;
  over.Of(Role::kActive, EventKind::kExited);
  over.Expect(State::kAwaitingSpawn, State::kAwaitingSpawn);
  EXPECT_EQ(over.life.running_release(), 1u);
  EXPECT_EQ(over.life.generation(), 3u);
  over.Serve();
  over.StandbyIsReady();
  over.Of(Role::kActive, EventKind::kExited, BH_END_STOPPED);
  EXPECT_EQ(over.life.generation(), 4u) << "generations count up";
  EXPECT_EQ(over.life.running_release(), 2u);
}

TEST(Lifecycle, AReadyStandbyTakesOverFromAHostThatCrashes) {
  Handover over;
  over.StandbyIsReady();
  EXPECT_TRUE(Has(over.Of(Role::kActive, EventKind::kExited), ActionKind::kServe));
  over.Expect(State::kAwaitingServe, State::kStopped);
}

TEST(Lifecycle, AStandbyTakesOverAtOnceFromADriverThatIsQuarantined) {
  Handover over;
  while (over.life.state() != State::kQuarantined) {
    over.Of(Role::kActive, EventKind::kExited);
    if (over.life.state() == State::kAwaitingCharge) Ended(over.life, over.now_ns);
    if (over.life.state() == State::kBackingOff) {
      over.now_ns = over.life.next_start_ns();
      over.Do({.kind = EventKind::kTimer});
    }
    if (over.life.state() == State::kAwaitingSpawn) over.Serve();
  }
  EXPECT_TRUE(Has(over.StandbyIsReady(), ActionKind::kServe));
  over.Expect(State::kAwaitingServe, State::kStopped);
}

// The first new release crashes while the second starts.
TEST(Lifecycle, AReleaseOnProbationThatCrashesMeanwhileGivesWayToTheGoodOne) {
  Handover over;
  over.StandbyIsReady();
  over.Of(Role::kActive, EventKind::kExited, BH_END_STOPPED);
  over.Of(Role::kActive, EventKind::kTold);
  over.Of(Role::kActive, EventKind::kStarted);
  over.Of(Role::kActive, EventKind::kBegun);
  over.Do({.kind = EventKind::kUpdate, .release = 3});
  over.Expect(State::kServing, State::kAwaitingSpawn);
  over.Of(Role::kActive, EventKind::kExited);
  EXPECT_EQ(over.life.running_release(), 1u);
  EXPECT_EQ(over.life.running_release(Role::kStandby), 3u);
  EXPECT_EQ(over.life.wanted_release(), 3u);
  over.Of(Role::kStandby, EventKind::kExited);
  EXPECT_EQ(over.life.wanted_release(), 1u);
}

TEST(Lifecycle, AHostBesideTheOldThatCantBeMadeTakesNothingBack) {
  Handover over;
  EXPECT_FALSE(Has(over.Of(Role::kStandby, EventKind::kSpawnFailed), ActionKind::kRolledBack));
  EXPECT_EQ(over.life.wanted_release(), 2u);
  EXPECT_TRUE(over.life.wants_host(Role::kStandby));
  EXPECT_EQ(over.life.state(), State::kServing);
}

TEST(Lifecycle, OtherContentMeanwhileReplacesTheStandby) {
  Handover over;
  over.StandbyIsReady();
  over.Do({.kind = EventKind::kUpdate, .release = 3});
  over.Expect(State::kAwaitingDrain, State::kAwaitingDrain);
  over.Of(Role::kActive, EventKind::kExited, BH_END_STOPPED);
  EXPECT_EQ(over.life.running_release(), 1u) << "until the third is there";
  over.Of(Role::kStandby, EventKind::kExited, BH_END_STOPPED);
  EXPECT_EQ(over.life.running_release(Role::kStandby), 3u);
  // And what runs is wanted again after all.
  over.Do({.kind = EventKind::kUpdate, .release = 1});
  EXPECT_FALSE(over.life.wants_host(Role::kStandby));
  over.Of(Role::kStandby, EventKind::kExited, BH_END_KILLED);
  over.Expect(State::kAwaitingSpawn, State::kStopped);
  EXPECT_EQ(over.life.failed_release(), 0u);
}

// Neither the shim's death before a process was known to it, nor between two hosts.
TEST(Lifecycle, AShimThatIsNotThereTakesNoContentBack) {
  Handover over;
  over.Of(Role::kStandby, EventKind::kUnprepared);
  EXPECT_FALSE(
      Has(over.Of(Role::kStandby, EventKind::kExited, BH_END_KILLED), ActionKind::kRolledBack));
  over.StandbyIsReady();
  over.Of(Role::kActive, EventKind::kExited, BH_END_STOPPED);
  over.Expect(State::kAwaitingServe, State::kStopped);
  EXPECT_TRUE(Has(over.Of(Role::kActive, EventKind::kUnprepared), ActionKind::kKill));
  const auto actions = over.Of(Role::kActive, EventKind::kExited, BH_END_KILLED);
  EXPECT_FALSE(Has(actions, ActionKind::kRolledBack));
  EXPECT_EQ(over.life.wanted_release(), 2u);
  EXPECT_EQ(over.life.failed_release(), 0u);
}

// However long it is gone, and however often that is tried.
TEST(Lifecycle, AShimThatIsNotThereChargesNoDriver) {
  Lifecycle life = In(State::kAwaitingSpawn);
  uint64_t now_ns = kSecond;
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(life.state(), State::kAwaitingSpawn) << i;
    life.Step({.kind = EventKind::kUnprepared, .generation = life.generation()}, now_ns);
    life.Step({.kind = EventKind::kExited, .generation = life.generation(), .end = BH_END_KILLED},
              now_ns);
    if (life.state() != State::kBackingOff) continue;
    ASSERT_LE(life.next_start_ns() - now_ns, 2 * kSecond) << i;
    now_ns = life.next_start_ns();
    life.Step({.kind = EventKind::kTimer}, now_ns);
  }
}

// It has longer calls in hand than a drain takes: the next one gets them, and none is blamed.
TEST(Lifecycle, ABusyHostThatHandsOverDidNotHang) {
  Handover over;
  over.StandbyIsReady();
  over.now_ns += 6 * kSecond;
  const auto killed = over.Of(Role::kActive, EventKind::kTimer);
  ASSERT_TRUE(Has(killed, ActionKind::kKill));
  const auto actions = over.Of(Role::kActive, EventKind::kExited, BH_END_KILLED);
  const auto end = std::find_if(actions.begin(), actions.end(), [](const ActionItem& action) {
    return action.kind == ActionKind::kEnd;
  });
  ASSERT_NE(end, actions.end());
  EXPECT_EQ(end->end, BH_END_STOPPED);
  over.Expect(State::kAwaitingServe, State::kStopped);
}

TEST(Lifecycle, AStopMeanwhileEndsBoth) {
  Handover over;
  over.Do({.kind = EventKind::kStop});
  over.Expect(State::kAwaitingDrain, State::kAwaitingExit);
  over.Of(Role::kStandby, EventKind::kExited, BH_END_KILLED);
  over.Of(Role::kActive, EventKind::kExited, BH_END_STOPPED);
  EXPECT_TRUE(over.life.Stopped());
}

// ---- Random histories

enum class Bug { kNone, kForgetsTimers, kForgetsKills, kForgetsAnswers };

// A world with at most one process for each role and a shim, that does what actions ask for and
// lets anything happen, in any order: hosts that crash, hang, lie or do not start; a shim that
// answers late, refuses, or is lost; an operator with new content, a standby, a canary, a stop.
class History {
 public:
  History(uint64_t seed, Bug bug)
      : random_(seed),
        bug_(bug),
        life_(Limits(seed), 1),
        calm_(seed % 4 < 2),
        quick_(seed % 8 < 4) {}

  static LifecycleLimits Limits(uint64_t seed) {
    LifecycleLimits limits = Beside(seed % 2 == 0);
    if (seed % 8 < 4) limits.service.falls_max = 1;  // a history is too short for five
    return limits;
  }
  int handovers() const { return handovers_; }
  int pardons() const { return pardons_; }

  // The first invariant that does not hold, or none.
  std::optional<std::string> Run(int steps) {
    Do({.kind = EventKind::kStart});
    for (int i = 0; i < steps && !broken_; ++i) {
      now_ns_ += random_() % (!quick_ && random_() % 8 == 0 ? 40 * kSecond : 50 * kMs);
      Happen();
      Check();
    }
    if (!broken_) StopReachesStopped();
    return broken_;
  }

 private:
  struct Process {
    uint32_t generation = 0;
    ReleaseId release = 0;
    bool alive = false;
    bool runs = false;    // the shim knows it
    bool dying = false;   // SIGKILL was sent
    bool killed = false;  // and the lifecycle asked for it
    bool draining = false;
    uint64_t timer_ns = 0;
  };

  Process& Of(Role role) { return processes_[static_cast<size_t>(role)]; }
  void Break(const std::string& text) {
    if (!broken_) broken_ = text;
  }

  void Do(Event event) {
    event.chance = random_();
    for (const ActionItem& action : life_.Step(event, now_ns_)) Carry(action);
    for (ReleaseId release = 1; release <= releases_; ++release) {
      if (!life_.Needs(release)) dropped_.insert(release);
    }
  }

  void Carry(const ActionItem& action) {
    Process& process = Of(action.role);
    switch (action.kind) {
      case ActionKind::kSpawn:
        if (process.alive) Break("two hosts of a role live at once");
        if (action.generation <= newest_) Break("a generation number came twice");
        if (action.role != Role::kCanary && failed_.count(action.release) != 0) {
          Break("a release that failed was started again");
        }
        if (dropped_.count(action.release) != 0) Break("a release was started that was not needed");
        newest_ = action.generation;
        process = {.generation = action.generation,
                   .release = action.release,
                   .alive = true,
                   .timer_ns = process.timer_ns};
        break;
      case ActionKind::kAttach:
        if (!process.runs) Break("a host was attached that does not run");
        break;
      case ActionKind::kServe: {
        Process& standby = Of(Role::kStandby);
        if (process.alive) Break("a standby took over from a host that lives");
        if (!standby.alive || standby.dying || standby.draining) {
          Break("a standby took over that does not live");
        }
        if (action.generation <= newest_) Break("a generation number came twice");
        newest_ = action.generation;
        const uint64_t timer_ns = process.timer_ns;
        process = standby;
        process.generation = action.generation;
        process.timer_ns = timer_ns;
        standby = {.timer_ns = standby.timer_ns};
        ++handovers_;
        break;
      }
      case ActionKind::kBegin:
        if (action.role != Role::kActive) Break("a standby or canary began");
        if (begun_ != 0 && begun_ != action.generation) {
          Break("a generation began before the one before it ended");
        }
        if (asked_ != 0) Break("the shim was asked twice");
        begun_ = action.generation;
        asked_ = action.generation;
        break;
      case ActionKind::kEnd:
        if (begun_ != action.generation) Break("a generation ended that had not begun");
        if (process.alive) Break("a generation ended whose host lives");
        begun_ = asked_ = serving_ = 0;
        ended_.push_back(action.generation);
        break;
      case ActionKind::kKill:
        if (bug_ != Bug::kForgetsKills) process.dying = process.killed = true;
        break;
      case ActionKind::kDrain:
        process.draining = true;
        break;
      case ActionKind::kSetTimer:
        if (bug_ != Bug::kForgetsTimers) process.timer_ns = action.at_ns;
        break;
      case ActionKind::kInForce:
        if (serving_ != life_.generation()) Break("a release is in force that does not serve");
        break;
      case ActionKind::kRolledBack:
        if (action.release != life_.good_release()) failed_.insert(action.release);
        break;
      case ActionKind::kAcquitted:
        if (failed_.erase(action.release) == 0)
          Break("a release was acquitted that had not failed");
        break;
      case ActionKind::kTrialFailed:
        if (action.role != Role::kCanary) Break("a trial without a canary failed");
        break;
      case ActionKind::kPardoned:
        ++pardons_;
        break;
      case ActionKind::kQuarantine:
      case ActionKind::kGood:
      case ActionKind::kStoppedNow:
        break;
    }
  }

  void Exit(Role role, bh_end end) {
    Process& process = Of(role);
    process.alive = process.draining = process.runs = false;
    Do({.kind = EventKind::kExited, .role = role, .generation = process.generation, .end = end});
  }

  void Answer() {
    const uint32_t generation = std::exchange(asked_, 0);
    const bool begins = random_() % 4 != 0;
    if (bug_ == Bug::kForgetsAnswers) return;
    if (begins) serving_ = generation;
    Do({.kind = begins ? EventKind::kBegun : EventKind::kBeginFailed,
        .generation = generation,
        .retry = random_() % 2 == 0});
  }

  void AnswerEnd() {
    const uint32_t generation = ended_.front();
    ended_.pop_front();
    if (bug_ == Bug::kForgetsAnswers) return;
    constexpr uint32_t kUsers[] = {1001, 1001, 1001, 1001, 1001, 1001, 1002, 1};
    Do({.kind = EventKind::kEnded,
        .generation = generation,
        .in_hand = {.count = random_() % 32 == 0 ? 0u : 1u, .users = {kUsers[random_() % 8]}}});
  }

  void HostDoes(Role role) {
    Process& process = Of(role);
    if (!process.alive) return;
    if (process.draining && calm_) {
      Exit(role, BH_END_STOPPED);
      return;
    }
    if (process.dying || random_() % (calm_ ? 60 : 6) == 0) {
      constexpr bh_end kEnds[] = {BH_END_STOPPED, BH_END_CRASHED, BH_END_KILLED};
      Exit(role, process.dying ? BH_END_KILLED : kEnds[random_() % 3]);
      return;
    }
    constexpr EventKind kSays[] = {EventKind::kHello, EventKind::kStarted,     EventKind::kReady,
                                   EventKind::kHello, EventKind::kStarted,     EventKind::kReady,
                                   EventKind::kHung,  EventKind::kStartFailed, EventKind::kHostile};
    const State waits_for = life_.state(role);
    if ((waits_for == State::kAwaitingSpawn || waits_for == State::kAwaitingServe) &&
        random_() % 8 == 0) {
      Do({.kind = EventKind::kUnprepared, .role = role, .generation = process.generation});
    } else if (waits_for == State::kAwaitingServe && random_() % 2 == 0) {
      Do({.kind = EventKind::kTold, .role = role, .generation = process.generation});
    } else if (!process.runs) {
      process.runs = true;
      Do({.kind = EventKind::kSpawned, .role = role, .generation = process.generation});
    } else {
      const EventKind started = role == Role::kActive ? EventKind::kStarted : EventKind::kReady;
      const State state = life_.state(role);
      const EventKind next = state == State::kAwaitingHello   ? EventKind::kHello
                             : state == State::kAwaitingServe ? EventKind::kTold
                                                              : started;
      Do({.kind = calm_ ? next : kSays[random_() % 9],
          .role = role,
          .generation = process.generation});
    }
  }

  // A call over which the newest hosts fell.
  void Poison() {
    const auto generation = static_cast<uint32_t>(newest_ - random_() % 3);
    Do({.kind = EventKind::kPoison, .generation = generation});
  }

  void OperatorDoes() {
    switch (random_() % 8) {
      case 0:
        Do({.kind = EventKind::kStop});
        break;
      case 1:
        Do({.kind = EventKind::kLift});
        break;
      case 2:
        Do({.kind = EventKind::kUpdate, .release = ++releases_});
        break;
      case 3: {  // one that is there already, even one that failed
        const ReleaseId release = random_() % releases_ + 1;
        failed_.erase(release);
        dropped_.erase(release);
        Do({.kind = EventKind::kUpdate, .release = release});
        break;
      }
      case 4:
        Do({.kind = EventKind::kStart, .role = Role::kStandby});
        break;
      case 5:
        Do({.kind = EventKind::kStop, .role = Role::kStandby});
        break;
      case 6:
        Do({.kind = EventKind::kStart, .role = Role::kCanary, .release = ++releases_});
        break;
      default:
        Do({.kind = EventKind::kStart});
        break;
    }
  }

  void Happen() {
    const Role role = kRoles[random_() % 4 % kRoleCount];  // the active one twice as often
    Process& process = Of(role);
    const uint64_t what = random_() % 16;
    if (what == 0) {
      OperatorDoes();
    } else if (what == 1 && random_() % 4 == 0) {
      Do({.kind = EventKind::kRestart});
    } else if (what == 1 && newest_ > 3) {
      Poison();
    } else if (what == 2) {  // late words of hosts that are gone, and of other roles
      const auto kind = static_cast<EventKind>(static_cast<int>(EventKind::kSpawned) +
                                               static_cast<int>(random_() % 15));
      const auto generation = static_cast<uint32_t>(random_() % (newest_ + 2));
      if (generation != process.generation) {
        Do({.kind = kind, .role = role, .generation = generation});
      }
    } else if (what < 6) {
      if (!ended_.empty()) {
        AnswerEnd();
      } else if (asked_ != 0) {
        Answer();
      }
    } else if (process.timer_ns != 0 && what < 9) {
      now_ns_ = std::max(now_ns_, process.timer_ns);
      process.timer_ns = 0;
      Do({.kind = EventKind::kTimer, .role = role});
    } else {
      HostDoes(role);
    }
  }

  void Check() {
    for (const Role role : kRoles) {
      const Process& process = Of(role);
      const State state = life_.state(role);
      if (life_.HasHost(role) != process.alive) {
        Break("it believes in a host that is not, or not in one that is");
      }
      if (life_.wants_host(role) && state == State::kStopped)
        Break("a host is wanted, and none is");
      const bool waits = state == State::kAwaitingHello || state == State::kAwaitingStarted ||
                         state == State::kAwaitingDrain || state == State::kBackingOff;
      if (waits && process.timer_ns == 0) Break("it waits without a timer");
      if (state == State::kAwaitingExit && !process.killed && process.timer_ns == 0) {
        Break("it waits for the exit of a host that lives");
      }
      if (state == State::kAwaitingBegin && asked_ == 0 && process.timer_ns == 0) {
        Break("it waits for the shim, which was not asked");
      }
      if (state == State::kAwaitingCharge && ended_.empty()) {
        Break("it waits for what the shim has said");
      }
      if (state == State::kServing && serving_ != life_.generation(role)) {
        Break("it serves, and the shim does not know");
      }
      if (role != Role::kActive && (state == State::kServing || state == State::kAwaitingBegin)) {
        Break("a standby or canary serves");
      }
      if (role == Role::kActive && state == State::kReady) Break("an active host does not serve");
      if (role == Role::kStandby && state == State::kReady &&
          process.release != life_.wanted_release()) {
        Break("a standby is ready with a release that is not wanted");
      }
    }
    if (failed_.count(life_.good_release()) != 0) Break("last-known-good is a release that failed");
  }

  // Even when the shim never answers again.
  void StopReachesStopped() {
    Do({.kind = EventKind::kStop});
    for (int i = 0; i < 8 && !life_.Stopped(); ++i) {
      for (const Role role : kRoles) {
        Process& process = Of(role);
        if (process.alive && (process.dying || process.draining)) {
          Exit(role, process.dying ? BH_END_KILLED : BH_END_STOPPED);
        } else if (process.timer_ns != 0) {
          now_ns_ = std::max(now_ns_, process.timer_ns);
          process.timer_ns = 0;
          Do({.kind = EventKind::kTimer, .role = role});
        }
      }
    }
    if (!life_.Stopped()) Break("a stop does not end in stopped");
    for (const Role role : kRoles) {
      if (Of(role).alive) Break("a stop leaves a host");
    }
    if (begun_ != 0) Break("a generation that began never ended");
  }

  std::mt19937_64 random_;
  const Bug bug_;
  Lifecycle life_;
  const bool calm_;   // most hosts do as they are told
  const bool quick_;  // no minutes pass between two of them
  uint64_t now_ns_ = kSecond;
  std::array<Process, kRoleCount> processes_;
  uint32_t newest_ = 0;
  uint32_t begun_ = 0;    // the shim was told to begin it
  uint32_t asked_ = 0;    // and has not answered
  uint32_t serving_ = 0;  // and has begun it
  ReleaseId releases_ = 1;
  std::set<ReleaseId> failed_;
  std::set<ReleaseId> dropped_;  // it said that it does not need them
  std::deque<uint32_t> ended_;   // the shim was told, and has not said what was in hand
  int handovers_ = 0;
  int pardons_ = 0;
  std::optional<std::string> broken_;
};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Lifecycle, RandomHistoriesKeepTheInvariants) {
  const uint64_t first = FromEnvironment("BULKHEAD_SEED", 1);
  const uint64_t histories = FromEnvironment("BULKHEAD_HISTORIES", 10'000);
  int handovers = 0, pardons = 0;
  for (uint64_t seed = first; seed < first + histories; ++seed) {
    History history(seed, Bug::kNone);
    const auto broken = history.Run(200);
    handovers += history.handovers();
    pardons += history.pardons();
    ASSERT_FALSE(broken) << *broken << "; replay: BULKHEAD_SEED=" << seed
                         << " BULKHEAD_HISTORIES=1";
  }
  EXPECT_GT(handovers, histories > 100 ? 100 : -1) << "the histories show none";
  EXPECT_GT(pardons, histories > 100 ? 100 : -1) << "the histories show none";
}

// A simulation that finds nothing must be one that would have.
TEST(Lifecycle, RandomHistoriesFindPlantedBugs) {
  for (const Bug bug : {Bug::kForgetsTimers, Bug::kForgetsKills, Bug::kForgetsAnswers}) {
    bool found = false;
    for (uint64_t seed = 1; seed <= 100 && !found; ++seed)
      found = History(seed, bug).Run(200).has_value();
    EXPECT_TRUE(found) << static_cast<int>(bug);
  }
}

Lifecycle Adopted(ReleaseId running, ReleaseId good) {
  Lifecycle life(Beside(true), good, /*last_generation=*/8);
  life.Adopt({.generation = 7,
              .newest_generation = 8,
              .running = running,
              .good = good,
              .newest_release = 4,
              .restarts = 5,
              .start_failures = 2},
             kSecond);
  return life;
}

TEST(LifecycleAdopt, AHostThatWasLeftServesAndIsReplacedAsAnyOther) {
  Lifecycle life = Adopted(1, 1);
  EXPECT_EQ(life.state(), State::kServing);
  EXPECT_EQ(life.generation(), 7u);
  EXPECT_EQ(life.restarts(), 5u);
  EXPECT_EQ(life.start_failures(), 2u);
  EXPECT_TRUE(life.Step({.kind = EventKind::kStart}, kSecond).empty()) << "it is there";
  const auto actions =
      life.Step({.kind = EventKind::kExited, .generation = 7, .end = BH_END_CRASHED}, 2 * kSecond);
  EXPECT_TRUE(Has(actions, ActionKind::kEnd));
  ASSERT_TRUE(Has(actions, ActionKind::kSpawn));
  EXPECT_EQ(life.generation(), 9u) << "above all that the service before has numbered";
  EXPECT_EQ(life.restarts(), 6u);
}

TEST(LifecycleAdopt, ContentOnProbationIsTakenBackWhenItsHostFalls) {
  Lifecycle life = Adopted(4, 3);
  EXPECT_EQ(life.wanted_release(), 4u);
  const auto actions =
      life.Step({.kind = EventKind::kExited, .generation = 7, .end = BH_END_CRASHED}, 2 * kSecond);
  EXPECT_TRUE(Has(actions, ActionKind::kRolledBack));
  EXPECT_EQ(life.wanted_release(), 3u);
}

TEST(LifecycleAdopt, ContentOnProbationIsGoodAfterItsTime) {
  Lifecycle life = Adopted(4, 3);
  const auto actions = life.Step({.kind = EventKind::kTimer}, 100 * kSecond);
  EXPECT_TRUE(Has(actions, ActionKind::kGood));
  EXPECT_EQ(life.good_release(), 4u);
}

TEST(LifecycleAdopt, ItStopsInOrder) {
  Lifecycle life = Adopted(1, 1);
  EXPECT_TRUE(Has(life.Step({.kind = EventKind::kStop}, kSecond), ActionKind::kDrain));
}

}  // namespace
}  // namespace bulkhead
