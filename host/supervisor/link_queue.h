// SPDX-License-Identifier: Apache-2.0
//
// LinkQueue: carries a supervisor's requests to its shim on threads of its own, so that the loop
// never waits for a shim. Results come back through the requests themselves, which post them.
//
// Each driver has a lane. Requests of a lane are carried one after another, in the order in which
// they were submitted; lanes do not wait for each other, as long as fewer than kThreadsMax of them
// wait for the shim at once. A shim has fewer channels, so one driver's request never delays
// another's, unless the link itself makes it wait. Statistics are fetched when a lane
// has nothing else to do.
//
// A link promises to answer within a second (ipc/shim_link.h). Stop() does not rely on that: a
// request that is not answered by then is abandoned with its thread, which touches nothing but the
// link and the clock afterwards. That thread shares the ownership of the link until the request
// returns.
//
// Threads: AddLane before the first Submit; the others from any thread.
#ifndef BULKHEAD_HOST_SUPERVISOR_LINK_QUEUE_H_
#define BULKHEAD_HOST_SUPERVISOR_LINK_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "ipc/shim_link.h"

namespace bulkhead {

class LinkQueue {
 public:
  static constexpr size_t kThreadsMax = 9;  // a shim has at most 8 channels
  using LaneId = size_t;
  // `channel` is the lane's at the time when the request is carried; what the request sets it to is
  // the next one's.
  using Request = absl::AnyInvocable<void(ShimLink& link, ChannelId& channel)>;

  // What is known of a lane's channel without asking.
  struct Report {
    bh_statistics statistics = {};
    bool has_statistics = false;
    uint64_t statistics_age_ns = 0;  // without any: since the lane was added
    uint64_t silent_ns = 0;  // how long the request in work has waited for its answer; 0: none
    std::string error;       // of the last try to fetch statistics; empty: it worked
  };

  // Starts the first thread.
  LinkQueue(std::shared_ptr<ShimLink> link, std::function<uint64_t()> now_ns);
  ~LinkQueue();  // Stop(now)

  LaneId AddLane(ChannelId channel);
  void Submit(LaneId lane, Request request);

  // Fetches the statistics of every lane; waits until all are newer than this call, or until_ns.
  void Refresh(uint64_t until_ns);
  Report ReportOf(LaneId lane) const;
  // Report::silent_ns alone.
  uint64_t SilentNs(LaneId lane) const;

  // Waits until every request was carried, or until_ns; then ends the threads. Requests that were
  // not begun by then are dropped. False: a request is still not answered, and was abandoned. Later
  // requests are dropped.
  bool Stop(uint64_t until_ns);

 private:
  struct State;
  static void Run(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_LINK_QUEUE_H_
