// SPDX-License-Identifier: Apache-2.0
//
// EmbeddedShim: an application in the role of the kernel. It asks drivers about files by making
// calls, with the same promises as in a kernel: each call ends exactly once, by its deadline,
// whatever the driver's host does. Hosts are separate processes; a supervisor (in this process or
// another thread of it) starts them and controls the shim through ShimLink.
//
//   absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
//   ... give shim->get() to a supervisor as its ShimLink; it adds channels and begins generations
//   ...
//
//   FileRequest request;
//   request.path = "/srv/incoming/report.pdf";
//   absl::StatusOr<UniqueFd> file = OpenAndDescribe(request);   // or fill object ids yourself
//   if (!file.ok()) ...
//   Completion completion = (*shim)->Call(request);
//   if (!completion.allowed()) ...                              // by a driver, or by policy
//
// The supervisor reports the death of a host through EndGeneration(); the shim does not watch
// processes.
//
// Threads: Call(), Start(), Poll() and the other functions for callers from any number of threads,
// concurrently with any function of ShimLink. AddChannel(): calls that were started before do not
// visit the new channel. Destruction: REQUIRES that no call is in flight.
#ifndef BULKHEAD_SHIM_EMBEDDED_EMBEDDED_SHIM_H_
#define BULKHEAD_SHIM_EMBEDDED_EMBEDDED_SHIM_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/channel_memory.h"
#include "ipc/exclusion_table.h"
#include "ipc/monotonic.h"
#include "ipc/shim_link.h"
#include "shim/core/bulkhead_core.h"
#include "shim/embedded/denial_queue.h"
#include "shim/embedded/event_queue.h"
#include "shim/embedded/file_request.h"
#include "shim/embedded/payload_loan.h"
#include "shim/embedded/user_channel.h"
#include "shim/embedded/user_platform.h"

namespace bulkhead {

class EmbeddedShim final : public ShimLink {
 public:
  struct Options {
    uint64_t deadline_ns = 5'000'000'000;  // of a request without one, from its start
  };

  // A call that its caller does not wait for. Keeps a copy of the path; the descriptor stays owned
  // by the caller and must be open until the call has ended.
  class PendingCall {
   public:
    PendingCall(const PendingCall&) = delete;
    PendingCall& operator=(const PendingCall&) = delete;

   private:
    friend class EmbeddedShim;
    PendingCall() = default;
    std::string path_;
    bh_call call_ = {};
  };

  static absl::StatusOr<std::unique_ptr<EmbeddedShim>> Create(const Options& options);
  ~EmbeddedShim() override;

  // Asks the drivers, by altitude, and waits for the end. A request by an excluded process is
  // allowed at once (outcome BH_OUTCOME_UNASKED).
  Completion Call(const FileRequest& request);

  // The same for a call that the application has filled itself (any callback; see bulkhead_core.h).
  // The caller must check first that the process is not excluded. `now_ns`: a value that
  // MonotonicCoarseNs() has just returned.
  void Call(bh_call* call, uint64_t now_ns);
  void Call(bh_call* call) { Call(call, MonotonicCoarseNs()); }
  // Room for the payload of one such call. The application fills it in place, which saves the copy.
  // ResourceExhausted: there is no room now.
  absl::StatusOr<PayloadLoan> Lend(ChannelId channel, size_t bytes);

  // Sends the notification to every driver that registered for it, and never waits: a notification
  // that finds no room is counted as lost. The caller must check first that the process is not
  // excluded. Texts must last for the call only.
  void Notify(const bh_notification& notification);
  // Several, in this order: cheaper than one by one.
  void Notify(absl::Span<const bh_notification> notifications);
  // What is kept for the first generation; each one that begins says what it wants itself.
  absl::Status SetNotifications(ChannelId channel, const bh_callback_set& kinds);
  // Whether any driver registered for this kind: to be checked before a notification is composed.
  bool WantsNotification(uint32_t kind) const;

  // Begins a call and returns at once. The application must poll it or wait for it until it has
  // ended: no other thread advances it, not even past its deadline.
  std::unique_ptr<PendingCall> Start(const FileRequest& request);
  // Advances the call as far as possible. True when it has ended; then *completion is filled.
  bool Poll(PendingCall& pending, Completion* completion);
  // Waits for the end, but not past until_ns.
  bool WaitUntil(PendingCall& pending, uint64_t until_ns, Completion* completion);
  // Ends the call now; the completion's outcome is cancelled.
  Completion Cancel(PendingCall& pending);

  bool IsExcluded(pid_t pid) const { return exclusions_.Contains(pid); }

  // ShimLink.
  void SetObserver(Observer* observer) override;
  absl::StatusOr<ChannelId> AddChannel(const ChannelSpec& spec) override;
  absl::StatusOr<ChannelDescriptors> Descriptors(ChannelId channel) override;
  absl::Status BeginGeneration(ChannelId channel, const bh_generation_spec& spec,
                               UniqueFd descriptor_socket) override;
  absl::Status CanNotify(const bh_callback_set&) const override { return absl::OkStatus(); }
  absl::StatusOr<bh_in_hand> EndGeneration(ChannelId channel, uint32_t generation,
                                           bh_end cause) override;
  absl::Status SetState(ChannelId channel, bool quarantined, bool draining) override;
  absl::Status SetPolicy(ChannelId channel, const bh_policy& policy) override;
  absl::StatusOr<bh_statistics> Statistics(ChannelId channel) override;
  absl::Status Exclude(pid_t pid) override;
  absl::Status Include(pid_t pid) override;

 private:
  struct Entry {
    Entry(ChannelMemory memory_in, DescriptorRoute route_in)
        : memory(std::move(memory_in)), route(std::move(route_in)) {}
    ChannelMemory memory;
    DescriptorRoute route;
    std::unique_ptr<UserChannel> channel;
  };

  explicit EmbeddedShim(const Options& options);

  void Deliver(const CoreEvent& event);
  absl::StatusOr<Entry*> FindLocked(ChannelId channel);
  uint64_t DeadlineOf(const FileRequest& request, uint64_t now_ns) const;

  const Options options_;
  ExclusionTable exclusions_;

  std::mutex observer_mutex_;  // held during a delivery, so that after SetObserver(nullptr) none is
                               // running
  Observer* observer_ = nullptr;

  EventQueue events_;
  DenialQueue denials_;
  UserPlatform platform_;

  std::mutex mutex_;  // guards channels and their control functions
  std::vector<std::unique_ptr<Entry>> entries_;
  // One list of channels for each AddChannel(): a call keeps the list that it started with.
  std::vector<std::unique_ptr<bh_shim>> stacks_;
  std::atomic<bh_shim*> stack_{nullptr};
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_EMBEDDED_SHIM_H_
