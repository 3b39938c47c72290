// SPDX-License-Identifier: Apache-2.0
#include "shim/fanotify/worker_control.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/control/shim_protocol.h"
#include "ipc/monotonic.h"

namespace bulkhead {

void WorkerControl::Run(uint32_t adopted) {
  control_->Send(MakeShimHello(static_cast<uint32_t>(getpid()), setup_->incarnation, adopted))
      .IgnoreError();
  for (;;) {
    absl::StatusOr<ControlMessage> message = control_->Receive(kForeverNs);
    if (message.ok()) {
      Handle(*message);
    } else if (absl::IsUnavailable(message.status())) {
      stop_->Raise(StopMode::kNow);
      return;
    }
    // Any other error concerns one invalid message: the next may be valid.
  }
}

void WorkerControl::Handle(ControlMessage& message) {
  if (const auto* begin = message.as<wire::BeginGeneration>()) {
    Reply(begin->request(), Begin(message, *begin));
  } else if (const auto* end = message.as<wire::EndGeneration>()) {
    const absl::StatusOr<bh_in_hand> in_hand = End(*end);
    Reply(end->request(), in_hand.status(), nullptr, in_hand.ok() ? &*in_hand : nullptr);
  } else if (const auto* state = message.as<wire::SetState>()) {
    Reply(state->request(), SetState(*state));
  } else if (const auto* policy = message.as<wire::SetPolicy>()) {
    Reply(policy->request(), SetPolicy(*policy));
  } else if (const auto* query = message.as<wire::GetStatistics>()) {
    const absl::Status status = CheckChannel(query->channel());
    if (!status.ok()) {
      Reply(query->request(), status);
      return;
    }
    const bh_statistics statistics = (*channels_)[query->channel()]->Statistics();
    Reply(query->request(), status, &statistics);
  }
}

absl::Status WorkerControl::CheckChannel(ChannelId channel) const {
  if (channel < channels_->size()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("the shim has no channel ", channel));
}

absl::Status WorkerControl::Begin(ControlMessage& message, const wire::BeginGeneration& order) {
  absl::Status status = CheckChannel(order.channel());
  if (!status.ok()) return status;
  const absl::StatusOr<bh_generation_spec> spec = ReadBeginGeneration(order);
  if (!spec.ok()) return spec.status();
  UserChannel& channel = *(*channels_)[order.channel()];
  if (channel.generation() == order.generation()) return absl::OkStatus();  // resent
  if (channel.generation() != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("generation ", channel.generation(), " serves"));
  }
  if (message.descriptor_count() > 0) {
    // The socket first: a ticket of the new generation must not be sent to the old socket.
    status = setup_->channels[order.channel()]->route.Connect(message.TakeDescriptor(0));
    if (!status.ok()) return status;
  }
  ChannelState state = LoadChannelState(journal_->channels[order.channel()]);
  const ChannelState before = state;
  state.generation = spec->generation;
  state.wanted = *spec;
  state.draining = 0;  // as in the core: a generation that begins is not draining
  StoreChannelState(journal_->channels[order.channel()], state);
  status = channel.BeginGeneration(*spec);
  if (!status.ok()) StoreChannelState(journal_->channels[order.channel()], before);
  return status;
}

absl::StatusOr<bh_in_hand> WorkerControl::End(const wire::EndGeneration& order) {
  absl::Status status = CheckChannel(order.channel());
  if (!status.ok()) return status;
  if (bh_end_known(order.cause()) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("EndGeneration has the unknown cause ", static_cast<int>(order.cause())));
  }
  UserChannel& channel = *(*channels_)[order.channel()];
  // The link keeps the active generation; if another is active here, this one was ended before a
  // takeover.
  if (channel.generation() != order.generation()) return channel.InHand(order.generation());
  ChannelState state = LoadChannelState(journal_->channels[order.channel()]);
  state.generation = 0;
  StoreChannelState(journal_->channels[order.channel()], state);
  absl::StatusOr<bh_in_hand> in_hand =
      channel.EndGeneration(order.generation(), static_cast<bh_end>(order.cause()));
  setup_->channels[order.channel()]->route.Disconnect();
  return in_hand;
}

absl::Status WorkerControl::SetState(const wire::SetState& order) {
  absl::Status status = CheckChannel(order.channel());
  if (!status.ok()) return status;
  ChannelState state = LoadChannelState(journal_->channels[order.channel()]);
  state.quarantined = order.quarantined() ? 1 : 0;
  state.draining = order.draining() ? 1 : 0;
  StoreChannelState(journal_->channels[order.channel()], state);
  (*channels_)[order.channel()]->SetState(order.quarantined(), order.draining());
  return absl::OkStatus();
}

absl::Status WorkerControl::SetPolicy(const wire::SetPolicy& order) {
  absl::Status status = CheckChannel(order.channel());
  if (!status.ok()) return status;
  absl::StatusOr<bh_policy> policy = ReadPolicy(order);
  if (!policy.ok()) return policy.status();
  status = (*channels_)[order.channel()]->SetPolicy(*policy);
  if (!status.ok()) return status;
  ChannelState state = LoadChannelState(journal_->channels[order.channel()]);
  state.policy = *policy;
  StoreChannelState(journal_->channels[order.channel()], state);
  return absl::OkStatus();
}

void WorkerControl::Reply(uint64_t request, const absl::Status& status,
                          const bh_statistics* statistics, const bh_in_hand* in_hand) {
  const std::string error = status.ok() ? std::string() : std::string(status.message());
  // The supervisor waits a second at most; a reply that can't be sent by then has no reader.
  control_->Send(MakeResult(request, error, statistics, in_hand)).IgnoreError();
}

}  // namespace bulkhead
