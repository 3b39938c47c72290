// SPDX-License-Identifier: Apache-2.0
#include "tests/storm/killer.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

// A pace, not a synchronisation: nothing depends on what happens meanwhile.
void PauseUntil(uint64_t at_ns) {
  const timespec at = {static_cast<time_t>(at_ns / kNanosecondsPerSecond),
                       static_cast<long>(at_ns % kNanosecondsPerSecond)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr);
}

}  // namespace

void Killer::Run(uint64_t kills_max, const std::atomic<bool>& done) {
  while (!done.load() && kills_.load() < kills_max) {
    PauseUntil(MonotonicNowNs() + every_ns_);
    if (dead_ns_.load() != 0) continue;  // no call was answered since the last kill
    const pid_t pid = victim_();
    if (pid <= 0) continue;
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!process.valid() || victim_() != pid) continue;  // it went by itself
    killed_ns_.store(MonotonicNowNs());
    if (syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) != 0) continue;
    pollfd dead = {process.get(), POLLIN, 0};
    poll(&dead, 1, 10'000);
    kills_.fetch_add(1);
    dead_ns_.store(MonotonicNowNs());
  }
}

void Killer::Completed(uint64_t started_ns, uint64_t ended_ns) {
  uint64_t dead_ns = dead_ns_.load();
  if (dead_ns == 0 || started_ns < dead_ns) return;
  const uint64_t killed_ns =
      killed_ns_.load();  // of this death, if the exchange finds it still there
  if (!dead_ns_.compare_exchange_strong(dead_ns, 0)) return;  // another thread recorded it
  const std::lock_guard<std::mutex> lock(mutex_);
  recoveries_ms_.push_back(static_cast<double>(ended_ns - killed_ns) / 1e6);
}

std::vector<double> Killer::recoveries_ms() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return recoveries_ms_;
}

}  // namespace bulkhead
