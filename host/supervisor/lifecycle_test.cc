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
#include <cstdlib>
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

// Brings a fresh life cycle with content 1 to a state.
Lifecycle In(State state) {
  Lifecycle life(LifecycleLimits(), 1);
  const auto step = [&life](EventKind kind, bh_end end = BH_END_CRASHED) {
    life.Step({.kind = kind, .generation = life.generation(), .end = end}, kSecond);
  };
  if (state == State::kStopped) return life;
  step(EventKind::kStart);
  if (state == State::kAwaitingHello) return life;
  step(EventKind::kHello);
  if (state == State::kAwaitingStarted) return life;
  step(EventKind::kStarted);
  if (state == State::kServing) return life;
  if (state == State::kAwaitingDrain) {
    step(EventKind::kStop);
  } else if (state == State::kAwaitingExit) {
    step(EventKind::kHung);
  } else {
    const int falls = state == State::kBackingOff ? 2 : 5;
    for (int i = 0; i < falls; ++i) {
      if (life.state() == State::kBackingOff) {
        life.Step({.kind = EventKind::kTimer}, life.next_start_ns());
      }
      if (life.state() == State::kAwaitingHello) step(EventKind::kHello), step(EventKind::kStarted);
      step(EventKind::kExited);
    }
  }
  return life;
}

TEST(Lifecycle, TheTableHasEveryStateAndEvent) {
  using S = State;
  using E = EventKind;
  const S same = static_cast<S>(255);
  // Rows: states; columns: events in the order of EventKind. What state follows; `same`: nothing
  // changes.
  const std::map<S, std::vector<S>> table = {
      {S::kStopped,
       {S::kAwaitingHello, same, same, same, same, same, same, same, same, same, same, same, same}},
      {S::kAwaitingHello,
       {same, S::kAwaitingExit, same, S::kAwaitingExit, S::kAwaitingStarted, same, same,
        S::kAwaitingHello, S::kAwaitingExit, S::kAwaitingExit, S::kAwaitingExit, S::kAwaitingHello,
        S::kAwaitingExit}},
      {S::kAwaitingStarted,
       {same, S::kAwaitingExit, same, S::kAwaitingExit, same, S::kServing, S::kAwaitingExit,
        S::kAwaitingHello, S::kAwaitingExit, S::kAwaitingExit, S::kAwaitingExit, same,
        S::kAwaitingExit}},
      {S::kServing,
       {same, S::kAwaitingDrain, same, S::kAwaitingDrain, same, same, same, S::kAwaitingHello,
        S::kAwaitingExit, S::kAwaitingExit, same, same, S::kAwaitingExit}},
      {S::kAwaitingDrain,
       {same, same, same, same, same, same, same, S::kStopped, S::kAwaitingExit, S::kAwaitingExit,
        S::kAwaitingExit, same, S::kAwaitingExit}},
      {S::kAwaitingExit,
       {same, same, same, same, same, same, same, S::kAwaitingHello, same, same, same, same, same}},
      {S::kBackingOff,
       {same, S::kStopped, S::kAwaitingHello, S::kAwaitingHello, same, same, same, same, same, same,
        S::kAwaitingHello, same, same}},
      {S::kQuarantined,
       {same, S::kStopped, S::kAwaitingHello, S::kAwaitingHello, same, same, same, same, same, same,
        same, same, same}},
  };
  ASSERT_EQ(table.size(), size_t{kStateCount});
  for (const auto& [state, row] : table) {
    ASSERT_EQ(row.size(), size_t{kEventKindCount}) << StateName(state);
    for (int kind = 0; kind < kEventKindCount; ++kind) {
      Lifecycle life = In(state);
      ASSERT_EQ(life.state(), state);
      const auto event = static_cast<E>(kind);
      life.Step({.kind = event, .generation = life.generation(), .content = 2}, 3600 * kSecond);
      const S wanted = row[static_cast<size_t>(kind)];
      EXPECT_EQ(life.state(), wanted == same ? state : wanted)
          << StateName(state) << ", " << EventKindName(event) << ": " << StateName(life.state());
    }
  }
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
                               EventKind::kHung, EventKind::kHostile, EventKind::kSpawnFailed}) {
    Lifecycle life = In(State::kServing);
    EXPECT_TRUE(life.Step({.kind = kind, .generation = life.generation() + 1}, kSecond).empty());
    EXPECT_EQ(life.state(), State::kServing);
  }
}

TEST(Lifecycle, ContentThatFailsToStartIsTakenBackWithoutACharge) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kContent, .content = 2}, kSecond);
  EXPECT_EQ(life.state(), State::kAwaitingDrain);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  EXPECT_EQ(life.running_content(), 2u);
  life.Step({.kind = EventKind::kHello, .generation = 2}, kSecond);
  const auto actions = life.Step({.kind = EventKind::kExited, .generation = 2}, kSecond);
  EXPECT_TRUE(Has(actions, ActionKind::kRolledBack));
  EXPECT_EQ(life.state(), State::kAwaitingHello) << "at once";
  EXPECT_EQ(life.running_content(), 1u);
  EXPECT_EQ(life.failed_content(), 2u);
  EXPECT_EQ(life.good_content(), 1u);
}

TEST(Lifecycle, ContentIsGoodAfterItsProbation) {
  Lifecycle life = In(State::kServing);
  life.Step({.kind = EventKind::kContent, .content = 2}, kSecond);
  life.Step({.kind = EventKind::kExited, .generation = 1, .end = BH_END_STOPPED}, kSecond);
  life.Step({.kind = EventKind::kHello, .generation = 2}, kSecond);
  life.Step({.kind = EventKind::kStarted, .generation = 2}, kSecond);
  EXPECT_EQ(life.good_content(), 1u);
  EXPECT_TRUE(Has(life.Step({.kind = EventKind::kTimer}, 61 * kSecond), ActionKind::kGood));
  EXPECT_EQ(life.good_content(), 2u);
}

TEST(Lifecycle, FiveCrashesInTenSecondsQuarantine) {
  Lifecycle life = In(State::kQuarantined);
  EXPECT_TRUE(life.wants_service());
  EXPECT_EQ(life.generation(), 5u);
}

// ---- Random histories

enum class Bug { kNone, kForgetsTimers, kForgetsKills };

// A world with at most one process, that does what actions say and lets anything happen.
class History {
 public:
  History(uint64_t seed, Bug bug) : random_(seed), bug_(bug), life_(LifecycleLimits(), 1) {}

  // The first invariant that does not hold, or none.
  std::optional<std::string> Run(int steps) {
    Do({.kind = EventKind::kStart});
    for (int i = 0; i < steps && !broken_; ++i) {
      now_ns_ += random_() % (random_() % 8 == 0 ? 40 * kSecond : 50 * kMs);
      Happen();
      Check();
    }
    if (!broken_) StopReachesStopped();
    return broken_;
  }

 private:
  void Break(const std::string& text) {
    if (!broken_) broken_ = text;
  }

  void Do(Event event) {
    event.chance = random_();
    for (const ActionItem& action : life_.Step(event, now_ns_)) Carry(action);
  }

  void Carry(const ActionItem& action) {
    switch (action.kind) {
      case ActionKind::kSpawn:
        if (alive_) Break("two hosts live at once");
        if (action.generation <= newest_) Break("a generation number came twice");
        if (failed_.count(action.content) != 0) Break("content that failed was started again");
        newest_ = action.generation;
        alive_ = true;
        dying_ = killed_ = false;
        break;
      case ActionKind::kBegin:
        if (begun_ != 0) Break("a generation began before the one before it ended");
        begun_ = action.generation;
        break;
      case ActionKind::kEnd:
        if (begun_ != action.generation) Break("a generation ended that had not begun");
        begun_ = 0;
        break;
      case ActionKind::kKill:
        if (bug_ != Bug::kForgetsKills) dying_ = killed_ = true;
        break;
      case ActionKind::kDrain:
        draining_ = true;
        break;
      case ActionKind::kSetTimer:
        if (bug_ != Bug::kForgetsTimers) timer_ns_ = action.at_ns;
        break;
      case ActionKind::kRolledBack:
        failed_.insert(action.content);
        break;
      case ActionKind::kAttach:
      case ActionKind::kQuarantine:
      case ActionKind::kInForce:
      case ActionKind::kGood:
      case ActionKind::kStoppedNow:
        break;
    }
  }

  void Exit(bh_end end) {
    alive_ = draining_ = false;
    Do({.kind = EventKind::kExited, .generation = life_.generation(), .end = end});
  }

  // Timers fire when they are due, before anything else.
  void Happen() {
    if (timer_ns_ != 0 && now_ns_ >= timer_ns_) {
      timer_ns_ = 0;
      return Do({.kind = EventKind::kTimer});
    }
    if (dying_ && alive_) return Exit(BH_END_KILLED);
    const uint32_t generation = life_.generation();
    switch (random_() % 16) {
      case 0:
        return Do({.kind = EventKind::kStart});
      case 1:
        return Do({.kind = EventKind::kStop});
      case 2:
        return Do({.kind = EventKind::kRelease});
      case 3:
        return Do({.kind = EventKind::kContent, .content = ++contents_});
      case 4:
        return Do({.kind = EventKind::kRestart});
      case 5:
        if (alive_) Do({.kind = EventKind::kHung, .generation = generation});
        return;
      case 6:
        if (alive_) Do({.kind = EventKind::kHostile, .generation = generation});
        return;
      case 7:
        if (alive_) Exit(random_() % 2 == 0 ? BH_END_CRASHED : BH_END_KILLED);
        return;
      case 8:
        if (alive_) Do({.kind = EventKind::kStartFailed, .generation = generation});
        return;
      case 9:
        if (alive_ && draining_) Exit(BH_END_STOPPED);
        return;
      case 10:  // stale news
        return Do({.kind = EventKind::kStarted, .generation = generation - 1});
      default:
        if (!alive_) return;
        return Do({.kind = life_.state() == State::kAwaitingHello ? EventKind::kHello
                                                                  : EventKind::kStarted,
                   .generation = generation});
    }
  }

  void Check() {
    const State state = life_.state();
    const bool has_host =
        state != State::kStopped && state != State::kBackingOff && state != State::kQuarantined;
    if (has_host != alive_) Break("it believes in a host that is not, or not in one that is");
    if (life_.wants_service() && state == State::kStopped) Break("it should serve, and is stopped");
    if (failed_.count(life_.good_content()) != 0) Break("last-known-good is content that failed");
    const bool waits = state == State::kAwaitingHello || state == State::kAwaitingStarted ||
                       state == State::kAwaitingDrain || state == State::kBackingOff;
    if (waits && timer_ns_ == 0) Break("it waits without a timer");
    if (state == State::kAwaitingExit && !killed_ && timer_ns_ == 0)
      Break("it waits for the exit of who lives");
    if (state == State::kServing && begun_ != life_.generation())
      Break("the shim does not know who serves");
  }

  void StopReachesStopped() {
    Do({.kind = EventKind::kStop});
    for (int i = 0; i < 8 && life_.state() != State::kStopped; ++i) {
      if (alive_ && (dying_ || draining_)) {
        Exit(dying_ ? BH_END_KILLED : BH_END_STOPPED);
      } else if (timer_ns_ != 0) {
        now_ns_ = std::max(now_ns_, timer_ns_);
        timer_ns_ = 0;
        Do({.kind = EventKind::kTimer});
      }
    }
    if (life_.state() != State::kStopped || alive_) Break("a stop does not end in stopped");
    if (begun_ != 0) Break("a generation that began never ended");
  }

  std::mt19937_64 random_;
  const Bug bug_;
  Lifecycle life_;
  uint64_t now_ns_ = kSecond;
  uint64_t timer_ns_ = 0;
  uint32_t newest_ = 0;
  uint32_t begun_ = 0;
  uint64_t contents_ = 1;
  std::set<uint64_t> failed_;
  bool alive_ = false;
  bool dying_ = false;
  bool killed_ = false;
  bool draining_ = false;
  std::optional<std::string> broken_;
};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Lifecycle, RandomHistoriesKeepTheInvariants) {
  const uint64_t first = FromEnvironment("BULKHEAD_SEED", 1);
  const uint64_t histories = FromEnvironment("BULKHEAD_HISTORIES", 10'000);
  for (uint64_t seed = first; seed < first + histories; ++seed) {
    const auto broken = History(seed, Bug::kNone).Run(200);
    ASSERT_FALSE(broken) << *broken << "; replay: BULKHEAD_SEED=" << seed
                         << " BULKHEAD_HISTORIES=1";
  }
}

// A simulation that finds nothing must be one that would have.
TEST(Lifecycle, RandomHistoriesFindPlantedBugs) {
  for (const Bug bug : {Bug::kForgetsTimers, Bug::kForgetsKills}) {
    bool found = false;
    for (uint64_t seed = 1; seed <= 100 && !found; ++seed)
      found = History(seed, bug).Run(200).has_value();
    EXPECT_TRUE(found) << static_cast<int>(bug);
  }
}

}  // namespace
}  // namespace bulkhead
