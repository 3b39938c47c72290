// SPDX-License-Identifier: Apache-2.0
//
// SpinBudget: how long a waiter spins before it sleeps. It learns from every wait whether spinning
// for the whole ceiling would have been enough; when not, it spins less and less, and then not at
// all, so that a waiter on a shared CPU does not burn the slice that its peer needs.
#ifndef BULKHEAD_IPC_SPIN_BUDGET_H_
#define BULKHEAD_IPC_SPIN_BUDGET_H_

#include <algorithm>
#include <cstdint>

namespace bulkhead {

class SpinBudget {
 public:
  // 0 never spins.
  explicit SpinBudget(uint32_t ceiling_ns) : ceiling_ns_(ceiling_ns), budget_ns_(ceiling_ns) {}

  uint32_t budget_ns() const { return budget_ns_; }

  // Spinning found what it waited for.
  void LearnPaid() {
    budget_ns_ = std::min(ceiling_ns_, std::max(budget_ns_ * 2, ceiling_ns_ / 8));
  }

  // A wait is over that took `waited_ns`, spinning and sleeping together.
  void Learn(uint64_t waited_ns) {
    if (waited_ns <= ceiling_ns_) {
      LearnPaid();
    } else {
      budget_ns_ /= 2;
      if (budget_ns_ < ceiling_ns_ / 64) budget_ns_ = 0;
    }
  }

  // The spinner lost its CPU while it spun: somebody else needs it.
  void LearnPreempted() { budget_ns_ = 0; }

 private:
  uint32_t ceiling_ns_;
  uint32_t budget_ns_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_SPIN_BUDGET_H_
