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
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/store/descriptor_store.h"
#include "ipc/control_socket.h"
#include "ipc/exclusion_table.h"
#include "ipc/fanotify/keeper_protocol.h"
#include "ipc/mutex.h"
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
  // `store`: where it keeps what a link after this one goes on with; may be null.
  RemoteShimLink(ExclusionTable* exclusions, const Limits& limits, std::function<void()> on_lost,
                 std::shared_ptr<DescriptorStore> store = nullptr);
  ~RemoteShimLink() override;

  // Configures a new keeper and makes the channels that there were, in their order. Not
  // concurrently with another Connect(); after a loss, only once `on_lost` was called.
  absl::Status Connect(ControlSocket control, UniqueFd keeper);
  // Instead of the first Connect(): goes on with the sockets and channels that a link before this
  // one has left in the store. NotFound: there are none; InvalidArgument.
  absl::Status Adopt();
  // Starts a worker if none runs, and waits until it says hello or until_ns. The functions of
  // ShimLink that need a worker do that, too, within their second.
  absl::Status EnsureRunning(uint64_t until_ns);
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
  uint32_t Serving(ChannelId channel) override;
  absl::StatusOr<ChannelDescriptors> Descriptors(ChannelId channel) override;
  absl::Status BeginGeneration(ChannelId channel, const bh_generation_spec& spec,
                               UniqueFd descriptor_socket) override;
  absl::StatusOr<bh_in_hand> EndGeneration(ChannelId channel, uint32_t generation,
                                           bh_end cause) override;
  absl::Status SetState(ChannelId channel, bool quarantined, bool draining) override;
  absl::Status SetPolicy(ChannelId channel, const bh_policy& policy) override;
  absl::StatusOr<bh_statistics> Statistics(ChannelId channel) override;
  absl::Status Exclude(pid_t pid) override;
  absl::Status Include(pid_t pid) override;
  absl::Status ExcludePeer(pid_t pid) override;
  absl::Status IncludePeer(pid_t pid) override;

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
    uint32_t ended = 0;             // the last generation that ended, for a worker that missed it
    bh_end end = BH_END_STOPPED;
    bool made_again = false;  // after a loss; AddChannel has not been called for it since

    void End(bh_end cause) {
      ended = std::exchange(generation, 0);
      end = cause;
      descriptor_socket.reset();
    }
  };
  struct Request {
    const ControlBuffer* message = nullptr;
    int descriptor = -1;  // may be none
    bool done = false;
    absl::Status status;
    bh_statistics statistics = {};
    bh_in_hand in_hand = {};
  };

  class KeeperTurn;

  absl::StatusOr<Channel*> Find(ChannelId channel) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AwaitWorker(uint64_t until_ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends a request and waits for its answer; mutex_ is released meanwhile.
  absl::StatusOr<Request> Ask(uint64_t id, const ControlBuffer& message, int descriptor,
                              uint64_t until_ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits for room until until_ns, with the lock. When there is none, the whole state is sent once
  // the worker has answered anything.
  absl::Status Send(const ControlBuffer& message, int descriptor, uint64_t until_ns)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Read();
  void Handle(ControlMessage& message);
  void HandleHello(const wire::ShimHello& hello);
  void ResendAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void KeepSockets() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Keep(ChannelId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static absl::StatusOr<std::unique_ptr<Channel>> ReadChannel(DescriptorStore::Item item);

  ExclusionTable* const exclusions_;
  const Limits limits_;
  const std::function<void()> on_lost_;
  const std::shared_ptr<DescriptorStore> store_;

  Mutex observer_mutex_;
  Observer* observer_ ABSL_GUARDED_BY(observer_mutex_) = nullptr;

  // Of the thread that has the turn.
  UniqueFd keeper_;
  uint32_t orders_ = 0;  // the number of the last one

  mutable Mutex mutex_;
  CondVar changed_;
  bool keeper_turn_taken_ ABSL_GUARDED_BY(mutex_) = false;
  // Null: not connected.
  std::shared_ptr<ControlSocket> control_ ABSL_GUARDED_BY(mutex_);
  UniqueFd kept_keeper_ ABSL_GUARDED_BY(mutex_);  // a copy of keeper_, to be kept
  // The keeper has the order to run a worker.
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  // A worker of this keeper has said hello.
  bool greeted_ ABSL_GUARDED_BY(mutex_) = false;
  // The keeper changes workers at this link's request.
  bool restart_expected_ ABSL_GUARDED_BY(mutex_) = false;
  bool disconnecting_ ABSL_GUARDED_BY(mutex_) = false;
  // A message was not sent for want of room.
  bool resend_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  // Grows only in the turn of the thread that adds one.
  std::vector<std::unique_ptr<Channel>> channels_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Request*> pending_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_request_ ABSL_GUARDED_BY(mutex_) = 1;
  Mutex exclusions_mutex_;  // one change of *exclusions_ at a time

  std::atomic<pid_t> worker_pid_{0};
  std::atomic<uint32_t> incarnation_{0};
  std::thread reader_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_REMOTE_SHIM_LINK_H_
