// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/restart_budget.h"

#include <algorithm>

namespace bulkhead {

std::optional<uint64_t> RestartBudget::Fell(uint64_t now_ns, uint64_t chance, uint64_t served_ns,
                                            uint64_t hung_ns) {
  hung_ns = std::min(hung_ns, now_ns - hung_ns_);
  hung_ns_ += hung_ns;
  const uint64_t at_ns = now_ns - hung_ns_;
  while (!falls_ns_.empty() && at_ns >= falls_ns_.front() + limits_.window_ns) {
    falls_ns_.pop_front();
  }
  if (served_ns >= limits_.window_ns + hung_ns) delay_ns_ = 0;
  if (limits_.falls_max != kFallsWithoutLimit) {
    falls_ns_.push_back(at_ns);
    if (falls_ns_.size() >= limits_.falls_max) return std::nullopt;
  }
  const uint64_t delay_ns = delay_ns_;
  delay_ns_ = std::min(delay_ns == 0 ? limits_.first_delay_ns : delay_ns * 2, limits_.delay_ns_max);
  return now_ns + delay_ns + (delay_ns == 0 ? 0 : chance % (delay_ns / 4 + 1));
}

void RestartBudget::Forgive() {
  falls_ns_.clear();
  delay_ns_ = 0;
}

}  // namespace bulkhead
