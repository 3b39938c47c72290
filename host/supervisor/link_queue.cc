// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/link_queue.h"

#include <algorithm>
#include <deque>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "ipc/check.h"
#include "ipc/mutex.h"

namespace bulkhead {

// Shared with the threads, so that one that is abandoned finds it still there.
struct LinkQueue::State {
  struct Lane {
    ChannelId channel = 0;
    std::deque<Request> requests;
    bool refresh = false;    // statistics are wanted
    bool scheduled = false;  // in `ready`, or carried by a thread
    bool in_work = false;
    uint64_t since_ns = 0;    // when the request in work began
    uint64_t refreshes = 0;   // tries to fetch statistics that have ended
    uint64_t wanted = 0;      // the number of the try that the newest asker waits for
    bool refreshing = false;  // the request in work is such a try
    bh_statistics statistics = {};
    bool has_statistics = false;
    uint64_t fetched_ns = 0;  // or when the lane was added
    std::string error;
  };

  State(std::shared_ptr<ShimLink> link_in, std::function<uint64_t()> now_ns_in)
      : link(std::move(link_in)), now_ns(std::move(now_ns_in)) {}

  void Schedule(LaneId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void StartThread(const std::shared_ptr<State>& self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // More lanes are ready than threads wait for one.
  bool WantsThread() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return ready.size() > idle && threads.size() < kThreadsMax;
  }
  void Carry(Lane& lane) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  bool Drained() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return std::none_of(lanes.begin(), lanes.end(),
                        [](const auto& lane) { return lane->scheduled; });
  }

  size_t InWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return static_cast<size_t>(
        std::count_if(lanes.begin(), lanes.end(), [](const auto& lane) { return lane->in_work; }));
  }

  const std::shared_ptr<ShimLink> link;
  const std::function<uint64_t()> now_ns;

  Mutex mutex;
  CondVar work;     // a lane is ready, or the end has come
  CondVar changed;  // a request ended
  std::vector<std::unique_ptr<Lane>> lanes ABSL_GUARDED_BY(mutex);
  std::deque<LaneId> ready ABSL_GUARDED_BY(mutex);
  size_t idle ABSL_GUARDED_BY(mutex) = 0;
  bool ended ABSL_GUARDED_BY(mutex) = false;
  std::vector<std::thread> threads ABSL_GUARDED_BY(mutex);
  std::vector<std::thread::id> left ABSL_GUARDED_BY(mutex);  // threads that have ended
};

LinkQueue::LinkQueue(std::shared_ptr<ShimLink> link, std::function<uint64_t()> now_ns)
    : state_(std::make_shared<State>(std::move(link), std::move(now_ns))) {
  const MutexLock lock(state_->mutex);
  state_->StartThread(state_);
  BULKHEAD_CHECK(!state_->threads.empty());
}

LinkQueue::~LinkQueue() { (void)Stop(0); }

// Without another thread, those that there are do the work.
void LinkQueue::State::StartThread(const std::shared_ptr<State>& self) {
  try {
    threads.emplace_back([self] { Run(self); });
  } catch (const std::system_error&) {
  }
}

LinkQueue::LaneId LinkQueue::AddLane(ChannelId channel) {
  const MutexLock lock(state_->mutex);
  state_->lanes.push_back(std::make_unique<State::Lane>());
  state_->lanes.back()->channel = channel;
  state_->lanes.back()->fetched_ns = state_->now_ns();
  return state_->lanes.size() - 1;
}

void LinkQueue::State::Schedule(LaneId id) {
  if (std::exchange(lanes[id]->scheduled, true)) return;
  ready.push_back(id);
  work.NotifyOne();
}

void LinkQueue::Submit(LaneId lane, Request request) {
  const MutexLock lock(state_->mutex);
  if (state_->ended) return;
  state_->lanes[lane]->requests.push_back(std::move(request));
  state_->Schedule(lane);
  if (state_->WantsThread()) state_->StartThread(state_);
}

void LinkQueue::Refresh(uint64_t until_ns) {
  State& state = *state_;
  const MutexLock lock(state.mutex);
  std::vector<uint64_t> wanted;
  for (LaneId id = 0; id < state.lanes.size() && !state.ended; ++id) {
    State::Lane& lane = *state.lanes[id];
    // A try that runs already may have read before this call: the one after it counts.
    wanted.push_back(lane.refreshes + (lane.refreshing ? 2 : 1));
    lane.wanted = wanted.back();
    lane.refresh = true;
    state.Schedule(id);
    if (state.WantsThread()) state.StartThread(state_);
  }
  const auto fresh = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state.mutex) {
    for (LaneId id = 0; id < wanted.size(); ++id) {
      if (state.lanes[id]->refreshes < wanted[id]) return false;
    }
    return true;
  };
  while (!state.ended && !fresh()) {
    if (!state.changed.WaitUntil(state.mutex, until_ns)) return;
  }
}

LinkQueue::Report LinkQueue::ReportOf(LaneId id) const {
  const MutexLock lock(state_->mutex);
  const State::Lane& lane = *state_->lanes[id];
  const uint64_t now_ns = state_->now_ns();
  Report report;
  report.statistics = lane.statistics;
  report.has_statistics = lane.has_statistics;
  report.statistics_age_ns = now_ns - lane.fetched_ns;
  if (lane.in_work) report.silent_ns = now_ns - lane.since_ns;
  report.error = lane.error;
  return report;
}

uint64_t LinkQueue::SilentNs(LaneId id) const {
  const MutexLock lock(state_->mutex);
  const State::Lane& lane = *state_->lanes[id];
  return lane.in_work ? state_->now_ns() - lane.since_ns : 0;
}

// Carries the lane's next request, or fetches its statistics. Releases the lock meanwhile.
void LinkQueue::State::Carry(Lane& lane) {
  lane.in_work = true;
  lane.since_ns = now_ns();
  ChannelId channel = lane.channel;
  if (!lane.requests.empty()) {
    Request request = std::move(lane.requests.front());
    lane.requests.pop_front();
    mutex.Unlock();
    request(*link, channel);
    request = nullptr;  // what it holds goes without the lock
    mutex.Lock();
    lane.channel = channel;
  } else {
    lane.refresh = false;
    lane.refreshing = true;
    mutex.Unlock();
    absl::StatusOr<bh_statistics> statistics = link->Statistics(channel);
    mutex.Lock();
    lane.refreshing = false;
    ++lane.refreshes;
    lane.error = std::string(statistics.status().message());
    if (statistics.ok()) {
      lane.statistics = *statistics;
      lane.has_statistics = true;
      lane.fetched_ns = now_ns();
    }
    if (lane.refreshes < lane.wanted) lane.refresh = true;
  }
  lane.in_work = false;
}

void LinkQueue::Run(const std::shared_ptr<State>& shared) {
  State& state = *shared;
  const MutexLock lock(state.mutex);
  for (;;) {
    while (state.ready.empty() && !state.ended) {
      ++state.idle;
      state.work.Wait(state.mutex);
      --state.idle;
    }
    if (state.ended) break;
    const LaneId id = state.ready.front();
    state.ready.pop_front();
    State::Lane& lane = *state.lanes[id];
    state.Carry(lane);
    lane.scheduled = false;
    if (!lane.requests.empty() || lane.refresh) state.Schedule(id);
    state.changed.NotifyAll();
  }
  state.left.push_back(std::this_thread::get_id());
  state.changed.NotifyAll();
}

bool LinkQueue::Stop(uint64_t until_ns) {
  State& state = *state_;
  std::vector<std::thread> threads;
  std::deque<Request> dropped;  // destroyed without the lock
  std::vector<std::thread::id> left;
  {
    const MutexLock lock(state.mutex);
    while (!state.ended && !state.Drained()) {
      if (!state.changed.WaitUntil(state.mutex, until_ns)) break;
    }
    state.ended = true;
    for (const auto& lane : state.lanes) {
      for (Request& request : lane->requests) dropped.push_back(std::move(request));
      lane->requests.clear();
      lane->refresh = false;
    }
    state.ready.clear();
    state.work.NotifyAll();
    state.changed.NotifyAll();
    // A thread that carries nothing ends at once.
    while (state.left.size() + state.InWork() < state.threads.size()) {
      state.changed.Wait(state.mutex);
    }
    threads.swap(state.threads);
    left = state.left;
  }
  bool all = true;
  for (std::thread& thread : threads) {
    if (std::find(left.begin(), left.end(), thread.get_id()) != left.end()) {
      thread.join();
    } else {
      thread.detach();
      all = false;
    }
  }
  return all;
}

}  // namespace bulkhead
