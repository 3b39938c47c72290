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
  // An operator's word.
  void Forgive();

 private:
  BudgetLimits limits_;
  std::deque<uint64_t> falls_ns_;  // within the window; at most falls_max, none without a limit
  uint64_t hung_ns_ = 0;           // of all falls; their times are less by what was hung until then
  uint64_t delay_ns_ = 0;          // before the next restart, without jitter
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_RESTART_BUDGET_H_
