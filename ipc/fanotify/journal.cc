// SPDX-License-Identifier: Apache-2.0
#include "ipc/fanotify/journal.h"

namespace bulkhead {

bool PolicyAllows(const bh_policy& policy, uint32_t callback, bh_reason reason) {
  if (policy.mode == BH_MODE_AUDIT) return true;
  const bh_rule& rule = policy.rule[bh_callback_class(callback)][reason];
  if (rule.action == BH_ACTION_ALLOW) return true;
  if (rule.action == BH_ACTION_DENY) return false;
  return rule.fallback == BH_ACTION_ALLOW;
}

// SUBTLE: one writer, so its own read needs no order; a reader gets the copy through `current`,
// which is stored last.
void StoreChannelState(ChannelStatePair& pair, const ChannelState& state) {
  const uint32_t next = 1 - (pair.current.load(std::memory_order_relaxed) & 1);
  pair.copy[next] = state;
  pair.current.store(next, std::memory_order_release);
}

ChannelState LoadChannelState(const ChannelStatePair& pair) {
  return pair.copy[pair.current.load(std::memory_order_acquire) & 1];
}

}  // namespace bulkhead
