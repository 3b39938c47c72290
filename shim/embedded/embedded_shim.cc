// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/embedded_shim.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/monotonic.h"

namespace bulkhead {

namespace {

// The clock is a large part of a short call.
constexpr uint32_t kTimedEvery = 16;

}  // namespace

absl::StatusOr<std::unique_ptr<EmbeddedShim>> EmbeddedShim::Create(const Options& options) {
  if (options.deadline_ns == 0) {
    return absl::InvalidArgumentError("the default deadline must be greater than 0");
  }
  return std::unique_ptr<EmbeddedShim>(new EmbeddedShim(options));
}

EmbeddedShim::EmbeddedShim(const Options& options)
    : options_(options),
      events_([this](const CoreEvent& event) { Deliver(event); }),
      denials_([this](uint32_t channel, const bh_denial& denial) {
        std::lock_guard<std::mutex> lock(observer_mutex_);
        if (observer_ != nullptr) observer_->OnDenial(channel, denial);
      }),
      platform_(&events_, &denials_, kTimedEvery) {
  stacks_.push_back(std::make_unique<bh_shim>());
  bh_shim_init(stacks_.back().get(), platform_.core());
  stack_.store(stacks_.back().get(), std::memory_order_release);
}

EmbeddedShim::~EmbeddedShim() = default;

// From the coarse clock: the deadline is up to a tick early, and never late.
uint64_t EmbeddedShim::DeadlineOf(const FileRequest& request, uint64_t now_ns) const {
  return request.deadline_ns != 0 ? request.deadline_ns
                                  : SaturatingAddNs(now_ns, options_.deadline_ns);
}

Completion EmbeddedShim::Call(const FileRequest& request) {
  const uint64_t now_ns = MonotonicCoarseNs();
  bh_call call;
  FillCall(request, DeadlineOf(request, now_ns), call);
  if (IsExcluded(static_cast<pid_t>(request.pid))) {
    Completion completion;
    completion.verdict = BH_VERDICT_ALLOW;
    completion.outcome = BH_OUTCOME_UNASKED;
    completion.ended_ns = now_ns;
    return completion;
  }
  Call(&call, now_ns);
  return CompletionOf(call);
}

void EmbeddedShim::Call(bh_call* call, uint64_t now_ns) {
  bh_call_run_at(stack_.load(std::memory_order_acquire), call, now_ns);
}

absl::StatusOr<PayloadLoan> EmbeddedShim::Lend(ChannelId channel, size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Entry*> entry = FindLocked(channel);
  if (!entry.ok()) return entry.status();
  const size_t pool = size_t{(*entry)->memory.geometry().call_chunks} * size_t{BH_POOL_CHUNK_BYTES};
  if (bytes == 0 || bytes > pool) {
    return absl::InvalidArgumentError(
        absl::StrCat("channel ", channel, " lends 1 to ", pool, " bytes, not ", bytes));
  }
  bh_channel* core = (*entry)->channel->core();
  void* memory = bh_loan_take(core, bytes);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("channel ", channel, " has no room for ", bytes, " bytes now"));
  }
  return PayloadLoan(core, memory, bytes);
}

void EmbeddedShim::Notify(const bh_notification& notification) {
  bh_shim_notify(stack_.load(std::memory_order_acquire), &notification);
}

void EmbeddedShim::Notify(absl::Span<const bh_notification> notifications) {
  bh_shim_notify_many(stack_.load(std::memory_order_acquire), notifications.data(),
                      notifications.size());
}

bool EmbeddedShim::WantsNotification(uint32_t kind) const {
  return bh_shim_wants_notification(stack_.load(std::memory_order_acquire), kind) != 0;
}

std::unique_ptr<EmbeddedShim::PendingCall> EmbeddedShim::Start(const FileRequest& request) {
  std::unique_ptr<PendingCall> pending(new PendingCall());
  pending->path_ = std::string(request.path);
  FileRequest copy = request;
  copy.path = pending->path_;
  FillCall(copy, DeadlineOf(request, MonotonicCoarseNs()), pending->call_);
  bh_call_start(stack_.load(std::memory_order_acquire), &pending->call_);
  return pending;
}

bool EmbeddedShim::Poll(PendingCall& pending, Completion* completion) {
  bh_wait wait;
  if (pending.call_.outcome == BH_OUTCOME_PENDING &&
      bh_call_step(&pending.call_, MonotonicNowNs(), &wait) == 0) {
    return false;
  }
  *completion = CompletionOf(pending.call_);
  return true;
}

bool EmbeddedShim::WaitUntil(PendingCall& pending, uint64_t until_ns, Completion* completion) {
  if (pending.call_.outcome == BH_OUTCOME_PENDING &&
      bh_call_run_until(&pending.call_, until_ns) == 0) {
    return false;
  }
  *completion = CompletionOf(pending.call_);
  return true;
}

Completion EmbeddedShim::Cancel(PendingCall& pending) {
  if (pending.call_.outcome == BH_OUTCOME_PENDING) {
    bh_call_cancel(&pending.call_, MonotonicNowNs());
  }
  return CompletionOf(pending.call_);
}

void EmbeddedShim::Deliver(const CoreEvent& event) {
  std::lock_guard<std::mutex> lock(observer_mutex_);
  if (observer_ == nullptr) return;
  switch (event.event) {
    case BH_EVENT_HUNG:
      observer_->OnHung(event.channel, event.generation, event.call_id, event.detail);
      return;
    case BH_EVENT_VIOLATION:
      observer_->OnViolation(event.channel, event.generation, event.detail);
      return;
    case BH_EVENT_POISON:
      observer_->OnPoison(event.channel, event.generation, event.call_id);
      return;
    default:
      return;
  }
}

void EmbeddedShim::SetObserver(Observer* observer) {
  std::lock_guard<std::mutex> lock(observer_mutex_);
  observer_ = observer;
}

absl::StatusOr<ChannelId> EmbeddedShim::AddChannel(const ChannelSpec& spec) {
  absl::StatusOr<ChannelMemory> memory = ChannelMemory::Create(spec.geometry, spec.notify_entries);
  if (!memory.ok()) return memory.status();
  absl::StatusOr<DescriptorRoute> route = DescriptorRoute::Create();
  if (!route.ok()) return route.status();
  auto entry = std::make_unique<Entry>(*std::move(memory), *std::move(route));

  std::lock_guard<std::mutex> lock(mutex_);
  if (entries_.size() >= BH_CHANNELS_MAX) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the shim has ", BH_CHANNELS_MAX, " drivers, the most that it can have"));
  }
  const ChannelId id = static_cast<ChannelId>(entries_.size());
  absl::StatusOr<std::unique_ptr<UserChannel>> channel = UserChannel::Create(
      id, spec, platform_.core(), &entry->route, entry->memory.call_region(),
      entry->memory.reply_region(), /*takeover=*/0, entry->memory.notification_region());
  if (!channel.ok()) return channel.status();
  entry->channel = *std::move(channel);

  auto stack = std::make_unique<bh_shim>(*stacks_.back());
  if (bh_shim_add(stack.get(), entry->channel->core()) != 0) {
    return absl::ResourceExhaustedError(
        "the shim can't take another driver: its list of channels is full");
  }
  entries_.push_back(std::move(entry));
  stacks_.push_back(std::move(stack));
  stack_.store(stacks_.back().get(), std::memory_order_release);
  return id;
}

absl::StatusOr<EmbeddedShim::Entry*> EmbeddedShim::FindLocked(ChannelId channel) {
  if (channel >= entries_.size()) {
    return absl::NotFoundError(absl::StrCat("the shim has no channel ", channel));
  }
  return entries_[channel].get();
}

absl::StatusOr<ChannelDescriptors> EmbeddedShim::Descriptors(ChannelId channel) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Entry*> entry = FindLocked(channel);
  if (!entry.ok()) return entry.status();
  return (*entry)->memory.Descriptors();
}

absl::Status EmbeddedShim::BeginGeneration(ChannelId channel, const bh_generation_spec& spec,
                                           UniqueFd descriptor_socket) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Entry*> entry = FindLocked(channel);
  if (!entry.ok()) return entry.status();
  if ((*entry)->channel->generation() == 0 && descriptor_socket.valid()) {
    // The socket first: a ticket of the new generation must not be sent to the old socket.
    absl::Status status = (*entry)->route.Connect(std::move(descriptor_socket));
    if (!status.ok()) return status;
  }
  return (*entry)->channel->BeginGeneration(spec);
}

absl::Status EmbeddedShim::SetNotifications(ChannelId channel, const bh_callback_set& kinds) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Entry*> entry = FindLocked(channel);
  if (!entry.ok()) return entry.status();
  (*entry)->channel->SetNotifications(kinds);
  return absl::OkStatus();
}

absl::StatusOr<bh_in_hand> EmbeddedShim::EndGeneration(ChannelId channel, uint32_t generation,
                                                       bh_end cause) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Entry*> entry = FindLocked(channel);
  if (!entry.ok()) return entry.status();
  absl::StatusOr<bh_in_hand> in_hand = (*entry)->channel->EndGeneration(generation, cause);
  // Files that are still queued for the dead host are dropped with the socket.
  if (in_hand.ok()) (*entry)->route.Disconnect();
  return in_hand;
}

absl::Status EmbeddedShim::SetState(ChannelId channel, bool quarantined, bool draining) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Entry*> entry = FindLocked(channel);
  if (!entry.ok()) return entry.status();
  (*entry)->channel->SetState(quarantined, draining);
  return absl::OkStatus();
}

absl::Status EmbeddedShim::SetPolicy(ChannelId channel, const bh_policy& policy) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Entry*> entry = FindLocked(channel);
  if (!entry.ok()) return entry.status();
  return (*entry)->channel->SetPolicy(policy);
}

absl::StatusOr<bh_statistics> EmbeddedShim::Statistics(ChannelId channel) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Entry*> entry = FindLocked(channel);
  if (!entry.ok()) return entry.status();
  return (*entry)->channel->Statistics();
}

absl::Status EmbeddedShim::Exclude(pid_t pid) {
  std::lock_guard<std::mutex> lock(mutex_);
  return exclusions_.Add(pid);
}

absl::Status EmbeddedShim::Include(pid_t pid) {
  std::lock_guard<std::mutex> lock(mutex_);
  return exclusions_.Remove(pid);
}

}  // namespace bulkhead
