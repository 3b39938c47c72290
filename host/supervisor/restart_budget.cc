// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/restart_budget.h"

#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/types/span.h"

namespace bulkhead {

namespace {

constexpr uint32_t kRoot = 1;  // in bh_in_hand.users

// Of what a host had in hand: not more are named.
absl::Span<const uint32_t> Users(const bh_in_hand& in_hand) {
  return absl::MakeSpan(in_hand.users, std::min(in_hand.count, BH_USERS_MAX));
}

bool Has(const bh_in_hand& in_hand, uint32_t user) {
  return user > kRoot && absl::c_linear_search(Users(in_hand), user);
}

}  // namespace

std::optional<uint64_t> RestartBudget::Fell(uint64_t now_ns, uint64_t chance, uint64_t served_ns,
                                            uint64_t hung_ns) {
  hung_ns = std::min(hung_ns, now_ns - hung_ns_);
  hung_ns_ += hung_ns;
  const uint64_t at_ns = now_ns - hung_ns_;
  while (!falls_.empty() && at_ns >= falls_.front().at_ns + limits_.window_ns) falls_.pop_front();
  if (served_ns >= limits_.window_ns + hung_ns) delay_ns_ = 0;
  if (limits_.falls_max != kFallsWithoutLimit) {
    falls_.push_back({.at_ns = at_ns, .in_hand = {}});
    if (falls_.size() >= limits_.falls_max) return std::nullopt;
  }
  return NextStartNs(now_ns, chance);
}

uint64_t RestartBudget::NextStartNs(uint64_t now_ns, uint64_t chance) {
  const uint64_t delay_ns = delay_ns_;
  delay_ns_ = std::min(delay_ns == 0 ? limits_.first_delay_ns : delay_ns * 2, limits_.delay_ns_max);
  return now_ns + delay_ns + (delay_ns == 0 ? 0 : chance % (delay_ns / 4 + 1));
}

void RestartBudget::Explain(const bh_in_hand& in_hand) {
  if (!falls_.empty()) falls_.back().in_hand = in_hand;
}

const RestartBudget::Fall* RestartBudget::FirstWithout(uint32_t user, uint32_t other) const {
  const auto found = absl::c_find_if(falls_, [user, other](const Fall& fall) {
    return !Has(fall.in_hand, user) && !Has(fall.in_hand, other);
  });
  return found == falls_.end() ? nullptr : &*found;
}

uint32_t RestartBudget::Culprit() const {
  uint32_t one_of_two = 0;
  for (const uint32_t user : Users(falls_.back().in_hand)) {
    if (user <= kRoot) continue;
    const Fall* const other_fall = FirstWithout(user, user);
    if (other_fall == nullptr) return user;
    for (const uint32_t other : Users(other_fall->in_hand)) {
      if (FirstWithout(user, other) == nullptr) one_of_two = user;
    }
  }
  return one_of_two;
}

uint32_t RestartBudget::Pardon(uint64_t now_ns, uint64_t chance, uint64_t* at_ns) {
  const uint32_t user = falls_.empty() ? 0 : Culprit();
  if (user == 0) return 0;
  falls_.pop_front();
  *at_ns = NextStartNs(now_ns, chance);
  return user;
}

void RestartBudget::Forgive() {
  falls_.clear();
  delay_ns_ = 0;
}

}  // namespace bulkhead
