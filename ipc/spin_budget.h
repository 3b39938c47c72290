// SPDX-License-Identifier: Apache-2.0
//
// SpinBudget: how long a waiter spins before it sleeps. After each wait it learns whether spinning
// up to the ceiling would have sufficed. If not, the budget shrinks, down to no spinning, so that a
// waiter on a shared CPU does not use up the time slice that its peer needs.
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

  // The spinning waiter saw its condition come true.
  void LearnPaid() {
    budget_ns_ = std::min(ceiling_ns_, std::max(budget_ns_ * 2, ceiling_ns_ / 8));
  }

  // A wait of `waited_ns`, spinning and sleeping together, has ended.
  void Learn(uint64_t waited_ns) {
    if (waited_ns <= ceiling_ns_) {
      LearnPaid();
    } else {
      budget_ns_ /= 2;
      if (budget_ns_ < ceiling_ns_ / 64) budget_ns_ = 0;
    }
  }

  // The spinning thread was preempted: another thread needs the CPU.
  void LearnPreempted() { budget_ns_ = 0; }

 private:
  uint32_t ceiling_ns_;
  uint32_t budget_ns_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_SPIN_BUDGET_H_
