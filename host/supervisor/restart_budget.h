// SPDX-License-Identifier: Apache-2.0
//
// RestartBudget: how often a driver may be started again after it fell, and how soon. Pure: time
// and chance come in as arguments.
//
//   first restart      at once
//   then               10 ms, doubling to 1 s, each with up to a quarter of it as jitter
//   5 in 10 s          no more: quarantine
//   10 s of service    the next restart is at once again
//
// Five falls that were all over calls of one user, or of two, are no quarantine: a user can make
// files without number over which the driver falls, and would switch it off for all. What that
// costs is restarts, of which there is one a second at most. Root counts for none: what the driver
// falls over on the machine's own account, and what any three users have, speaks against the
// driver.
//
// Time that a driver hung is no time: five falls are as many however long it took to see each.
//
// No delay is longer than callers can wait for: they wait for a restart as long as their deadlines
// allow. One budget counts falls in service, another failures to start: a driver that needs three
// tries to start is not the one that crashes under load. A third bounds how fast hosts that are
// killed from outside are replaced; it never ends in quarantine.
#ifndef BULKHEAD_HOST_SUPERVISOR_RESTART_BUDGET_H_
#define BULKHEAD_HOST_SUPERVISOR_RESTART_BUDGET_H_

#include <cstdint>
#include <deque>
#include <optional>

#include "ipc/abi/events.h"

namespace bulkhead {

struct BudgetLimits {
  uint32_t falls_max = 5;  // that many falls within the window are one too many
  uint64_t window_ns = 10'000'000'000;
  uint64_t first_delay_ns = 10'000'000;
  uint64_t delay_ns_max = 1'000'000'000;
};
inline constexpr uint32_t kFallsWithoutLimit = UINT32_MAX;

class RestartBudget {
 public:
  explicit RestartBudget(const BudgetLimits& limits) : limits_(limits) {}

  // The driver fell at now_ns, after it had served for served_ns, of which it hung for the last
  // hung_ns. The time at which it may be started again, or none: quarantine. `chance` is any random
  // number.
  std::optional<uint64_t> Fell(uint64_t now_ns, uint64_t chance, uint64_t served_ns = 0,
                               uint64_t hung_ns = 0);
  // What the host had in hand at the fall that was told last.
  void Explain(const bh_in_hand& in_hand);
  // That fall was one too many. 0: for good. Or a user over whose calls it fell, by
  // bh_in_hand.users, that with one other at most explains every fall: then it may be started again
  // at *at_ns nevertheless, and the oldest fall is forgotten.
  uint32_t Pardon(uint64_t now_ns, uint64_t chance, uint64_t* at_ns);
  // An operator's word.
  void Forgive();

 private:
  struct Fall {
    uint64_t at_ns;
    bh_in_hand in_hand;
  };

  uint32_t Culprit() const;
  const Fall* FirstWithout(uint32_t user, uint32_t other) const;
  uint64_t NextStartNs(uint64_t now_ns, uint64_t chance);

  BudgetLimits limits_;
  std::deque<Fall> falls_;  // within the window; at most falls_max, none without a limit
  uint64_t hung_ns_ = 0;    // of all falls; their times are less by what was hung until then
  uint64_t delay_ns_ = 0;   // before the next restart, without jitter
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_RESTART_BUDGET_H_
