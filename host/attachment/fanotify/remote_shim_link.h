// SPDX-License-Identifier: Apache-2.0
//
// RemoteShimLink: the supervisor's ShimLink to a shim in a process of its own.
//
// It keeps the last state sent to the shim (policy, state, active generation and its socket). A
// worker that takes over gets all of that from the journal. The link sends it again nevertheless,
// and resends the requests that got no answer, so that an order is not lost with a worker that
// died. When keeper and worker are dead, Connect() makes the same channels, under the same ids, in
// the next keeper; no generation is active then until the supervisor begins one.
//
// Threads: any function from any thread. A thread of the link reads the shim's messages and calls
// the observer.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_REMOTE_SHIM_LINK_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_REMOTE_SHIM_LINK_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/control_socket.h"
#include "ipc/exclusion_table.h"
#include "ipc/fanotify/keeper_protocol.h"
#include "ipc/shim_link.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

class RemoteShimLink final : public ShimLink {
 public:
  struct Limits {
    uint32_t readers = 2;
    uint32_t in_flight_max = 0;
  };

  // `exclusions` is shared with the shim, not owned. `on_lost` is called, from the link's thread,
  // when both sockets are closed at the shim's end: no process of the shim is left.
  RemoteShimLink(ExclusionTable* exclusions, const Limits& limits, std::function<void()> on_lost);
  ~RemoteShimLink() override;

  // Configures a new keeper and makes the channels that there were, in their order. Not
  // concurrently with another Connect(); after a loss, only once `on_lost` was called.
  absl::Status Connect(ControlSocket control, UniqueFd keeper);
  // Starts a worker if none runs, and waits until it says hello (5 s at most). The other functions
  // call it when they need a worker.
  absl::Status EnsureRunning();
  // Closes both sockets, which ends the shim. Waits until the shim has closed its ends.
  void Disconnect();

  pid_t worker_pid() const { return worker_pid_.load(); }
  uint32_t incarnation() const { return incarnation_.load(); }
  // The verdict of the channels' policies for a call when no driver can be asked any more.
  bool AllowsUnanswered(uint32_t callback) const;
  // For the attachment, which detects a loss: calls the current observer, if any.
  void NotifyShimLost();

  // ShimLink. After a loss, AddChannel with the name of a driver that had a channel returns that
  // channel, which Connect() has made again.
  void SetObserver(Observer* observer) override;
  absl::StatusOr<ChannelId> AddChannel(const ChannelSpec& spec) override;
  absl::StatusOr<ChannelDescriptors> Descriptors(ChannelId channel) override;
  absl::Status BeginGeneration(ChannelId channel, const bh_generation_spec& spec,
                               UniqueFd descriptor_socket) override;
  absl::Status EndGeneration(ChannelId channel, uint32_t generation, bh_end cause) override;
  absl::Status SetState(ChannelId channel, bool quarantined, bool draining) override;
  absl::Status SetPolicy(ChannelId channel, const bh_policy& policy) override;
  absl::StatusOr<bh_statistics> Statistics(ChannelId channel) override;
  absl::Status Exclude(pid_t pid) override;
  absl::Status Include(pid_t pid) override;

 private:
  // The state of a channel that the shim should have.
  struct Channel {
    ChannelSpec spec;
    ChannelDescriptors regions;
    bool quarantined = false;
    bool draining = false;
    uint32_t generation = 0;
    uint32_t highest_generation = 0;
    bh_generation_spec begun = {};  // of the generation that serves
    UniqueFd descriptor_socket;     // of the active generation, for the next worker
    bool made_again = false;        // after a loss; AddChannel has not been called for it since
  };
  struct Request {
    const ControlBuffer* message = nullptr;
    int descriptor = -1;  // may be none
    bool done = false;
    absl::Status status;
    std::optional<bh_statistics> statistics;
  };

  absl::StatusOr<Channel*> FindLocked(ChannelId channel);
  // Sends a request and waits for its answer; `lock` holds mutex_ and is released meanwhile.
  absl::StatusOr<bh_statistics> Ask(std::unique_lock<std::mutex>& lock, uint64_t id,
                                    const ControlBuffer& message, int descriptor = -1);
  absl::Status SendLocked(const ControlBuffer& message, int descriptor);
  absl::StatusOr<ChannelDescriptors> OrderKeeper(const KeeperRequest& request);
  absl::StatusOr<ChannelDescriptors> MakeChannel(const ChannelSpec& spec);
  void Read();
  void Handle(ControlMessage& message);
  void HandleHello(const wire::ShimHello& hello);
  void ResendAllLocked();

  ExclusionTable* const exclusions_;
  const Limits limits_;
  const std::function<void()> on_lost_;

  std::mutex observer_mutex_;
  Observer* observer_ = nullptr;

  std::mutex keeper_mutex_;  // one order at a time; before mutex_
  UniqueFd keeper_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<ControlSocket> control_;  // null: not connected
  bool running_ = false;                    // the keeper has the order to run a worker
  bool greeted_ = false;                    // a worker of this keeper has said hello
  bool restart_expected_ = false;           // the keeper changes workers at this link's request
  bool disconnecting_ = false;
  std::vector<std::unique_ptr<Channel>> channels_;
  std::map<uint64_t, Request*> pending_;
  uint64_t next_request_ = 1;
  std::mutex exclusions_mutex_;

  std::atomic<pid_t> worker_pid_{0};
  std::atomic<uint32_t> incarnation_{0};
  std::thread reader_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_REMOTE_SHIM_LINK_H_
