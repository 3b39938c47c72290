// SPDX-License-Identifier: Apache-2.0
//
// WorkerControl: the supervisor's orders to a worker, one at a time. Each is written to the journal
// before it is carried out, so that the next worker continues if this one is killed in between.
// Each can be carried out twice: after a takeover the supervisor resends the orders that got no
// answer.
#ifndef BULKHEAD_SHIM_FANOTIFY_WORKER_CONTROL_H_
#define BULKHEAD_SHIM_FANOTIFY_WORKER_CONTROL_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "ipc/control_socket.h"
#include "shim/embedded/user_channel.h"
#include "shim/fanotify/stop_signal.h"
#include "shim/fanotify/worker.h"

namespace bulkhead {

class WorkerControl {
 public:
  WorkerControl(ControlSocket* control, Journal* journal, WorkerSetup* setup,
                std::vector<std::unique_ptr<UserChannel>>* channels, StopSignal* stop)
      : control_(control), journal_(journal), setup_(setup), channels_(channels), stop_(stop) {}

  // The thread: says hello, then carries out orders until the supervisor closes the socket, which
  // raises StopMode::kNow.
  void Run(uint32_t adopted);

 private:
  void Handle(ControlMessage& message);
  absl::Status Begin(ControlMessage& message, const wire::BeginGeneration& order);
  absl::StatusOr<bh_in_hand> End(const wire::EndGeneration& order);
  absl::Status SetState(const wire::SetState& order);
  absl::Status SetPolicy(const wire::SetPolicy& order);
  absl::Status CheckChannel(ChannelId channel) const;
  void Reply(uint64_t request, const absl::Status& status,
             const bh_statistics* statistics = nullptr, const bh_in_hand* in_hand = nullptr);

  ControlSocket* const control_;
  Journal* const journal_;
  WorkerSetup* const setup_;
  std::vector<std::unique_ptr<UserChannel>>* const channels_;
  StopSignal* const stop_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_FANOTIFY_WORKER_CONTROL_H_
