// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/completer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kPeriodMinNs = 500'000;
constexpr uint64_t kPeriodMaxNs = 5'000'000;
// Limits polling to a few per cent of the CPU.
constexpr uint64_t kPeriodPerCallNs = 2'000;

}  // namespace

Completer::Completer(const StopSignal* stop, std::function<void(Event&)> complete)
    : stop_(stop), complete_(std::move(complete)) {
  inbox_.reserve(kJournalRecords);
}

void Completer::Park(Event* event) {
  parked_.fetch_add(1, std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    inbox_.push_back(event);
  }
  arrived_.notify_one();
}

void Completer::Wake() {
  std::lock_guard<std::mutex> lock(mutex_);
  arrived_.notify_one();
}

bool Completer::Step(Event& event) {
  if (stop_->mode() == StopMode::kNow) bh_call_cancel(&event.call, MonotonicNowNs());
  bh_wait wait;
  return bh_call_step(&event.call, MonotonicNowNs(), &wait) != 0;
}

void Completer::Run() {
  std::vector<Event*> calls;
  calls.reserve(kJournalRecords);
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (calls.empty()) {
        arrived_.wait(lock, [this] { return !inbox_.empty(); });
      } else if (calls.size() > 1 && inbox_.empty()) {
        const uint64_t period_ns =
            std::clamp(calls.size() * kPeriodPerCallNs, kPeriodMinNs, kPeriodMaxNs);
        arrived_.wait_for(lock, std::chrono::nanoseconds(period_ns));
      }
      calls.insert(calls.end(), inbox_.begin(), inbox_.end());
      inbox_.clear();
    }
    if (calls.size() == 1 && stop_->mode() != StopMode::kNow) {
      bh_call_run_until(&calls[0]->call, MonotonicAfterNs(kPeriodMinNs));
    }
    calls.erase(std::remove_if(calls.begin(), calls.end(),
                               [this](Event* event) {
                                 if (event->call.outcome == BH_OUTCOME_PENDING && !Step(*event)) {
                                   return false;
                                 }
                                 complete_(*event);
                                 parked_.fetch_sub(1, std::memory_order_relaxed);
                                 return true;
                               }),
                calls.end());
  }
}

}  // namespace bulkhead
