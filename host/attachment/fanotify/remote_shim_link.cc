// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/remote_shim_link.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/abi/events.h"
#include "ipc/control/fields.h"
#include "ipc/control/shim_protocol.h"
#include "ipc/fanotify/journal.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr std::chrono::seconds kAnswerLimit(1);
constexpr std::chrono::seconds kHelloLimit(5);
constexpr int kKeeperAnswerMs = 1000;

absl::Status Gone() {
  return absl::UnavailableError("the fanotify shim has died; the next one is being started");
}

}  // namespace

RemoteShimLink::RemoteShimLink(ExclusionTable* exclusions, const Limits& limits,
                               std::function<void()> on_lost)
    : exclusions_(exclusions), limits_(limits), on_lost_(std::move(on_lost)) {}

RemoteShimLink::~RemoteShimLink() { Disconnect(); }

absl::Status RemoteShimLink::Connect(ControlSocket control, UniqueFd keeper) {
  if (reader_.joinable()) reader_.join();
  std::lock_guard<std::mutex> keeper_lock(keeper_mutex_);
  keeper_ = std::move(keeper);
  KeeperRequest configure = {};
  configure.order = KeeperOrder::kConfigure;
  configure.readers = limits_.readers;
  configure.in_flight_max = limits_.in_flight_max;
  absl::Status status = OrderKeeper(configure).status();
  if (!status.ok()) return status;

  std::lock_guard<std::mutex> lock(mutex_);
  for (const std::unique_ptr<Channel>& channel : channels_) {
    absl::StatusOr<ChannelDescriptors> regions = MakeChannel(channel->spec);
    if (!regions.ok()) return regions.status();
    channel->regions = *std::move(regions);
    channel->generation = 0;
    channel->descriptor_socket.reset();
    channel->made_again = true;
  }
  control_ = std::make_shared<ControlSocket>(std::move(control));
  running_ = false;
  greeted_ = false;
  restart_expected_ = false;
  disconnecting_ = false;
  reader_ = std::thread([this] { Read(); });
  return absl::OkStatus();
}

void RemoteShimLink::Disconnect() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    disconnecting_ = true;
    // Wakes the link's reader, and closes the worker's end.
    if (control_ != nullptr) shutdown(control_->fd(), SHUT_RDWR);
  }
  if (reader_.joinable()) reader_.join();
  std::lock_guard<std::mutex> keeper_lock(keeper_mutex_);
  keeper_.reset();
}

absl::Status RemoteShimLink::EnsureRunning() {
  {
    std::lock_guard<std::mutex> keeper_lock(keeper_mutex_);
    bool running;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (control_ == nullptr) return Gone();
      running = running_;
    }
    if (!running) {
      KeeperRequest run = {};
      run.order = KeeperOrder::kRun;
      absl::Status status = OrderKeeper(run).status();
      if (!status.ok()) return status;
      std::lock_guard<std::mutex> lock(mutex_);
      running_ = true;
    }
  }
  std::unique_lock<std::mutex> lock(mutex_);
  if (!changed_.wait_for(lock, kHelloLimit, [this] { return greeted_ || control_ == nullptr; })) {
    return absl::UnavailableError("the fanotify shim did not begin within 5 s");
  }
  return control_ == nullptr ? Gone() : absl::OkStatus();
}

// REQUIRES: keeper_mutex_.
absl::StatusOr<ChannelDescriptors> RemoteShimLink::OrderKeeper(const KeeperRequest& order) {
  KeeperRequest request = order;
  request.version = kKeeperVersion;
  if (!keeper_.valid()) return Gone();
  if (send(keeper_.get(), &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request)) {
    return Gone();
  }
  pollfd waited = {.fd = keeper_.get(), .events = POLLIN, .revents = 0};
  const uint64_t until_ns = MonotonicAfterNs(kKeeperAnswerMs * kNanosecondsPerMillisecond);
  while (poll(&waited, 1, kKeeperAnswerMs) <= 0) {
    if (MonotonicNowNs() < until_ns) continue;
    // A late reply would be taken for the reply to the next order: this keeper can't be used any
    // more.
    keeper_.reset();
    return absl::UnavailableError("the fanotify shim's keeper did not answer within a second");
  }
  KeeperReply reply = {};
  iovec bytes = {.iov_base = &reply, .iov_len = sizeof(reply)};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t received = recvmsg(keeper_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  ChannelDescriptors descriptors;
  const cmsghdr* header = received > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(2 * sizeof(int))) {
    int fds[2];
    std::memcpy(fds, CMSG_DATA(header), sizeof(fds));
    descriptors.call_region.reset(fds[0]);
    descriptors.reply_region.reset(fds[1]);
  }
  if (received <= 0) return Gone();
  if (received != sizeof(reply) || reply.version != kKeeperVersion) {
    return absl::FailedPreconditionError(
        "bulkhead-shim-fanotify is of another version than this program: install both of one "
        "release");
  }
  if (reply.failed != 0) {
    return absl::InvalidArgumentError(
        std::string(reply.error, strnlen(reply.error, sizeof(reply.error))));
  }
  return descriptors;
}

// REQUIRES: keeper_mutex_.
absl::StatusOr<ChannelDescriptors> RemoteShimLink::MakeChannel(const ChannelSpec& spec) {
  KeeperRequest request = {};
  request.order = KeeperOrder::kAddChannel;
  request.geometry = spec.geometry;
  request.policy = spec.policy;
  request.altitude = spec.altitude;
  request.spin_ns = spec.spin_ns;
  request.cache_entries = spec.cache_entries;
  request.without_paths = !spec.paths;
  std::memcpy(request.driver, spec.driver.data(),
              std::min(spec.driver.size(), sizeof(request.driver) - 1));
  absl::StatusOr<ChannelDescriptors> regions = OrderKeeper(request);
  if (regions.ok() && !regions->reply_region.valid()) {
    return absl::InternalError("the keeper made a channel and did not send it");
  }
  return regions;
}

absl::StatusOr<ChannelId> RemoteShimLink::AddChannel(const ChannelSpec& spec) {
  std::lock_guard<std::mutex> keeper_lock(keeper_mutex_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (control_ == nullptr) return Gone();
    for (size_t i = 0; i < channels_.size(); ++i) {
      if (channels_[i]->spec.driver != spec.driver) continue;
      if (!channels_[i]->made_again) {
        return absl::AlreadyExistsError(
            absl::StrCat("driver '", spec.driver, "' has a channel already"));
      }
      channels_[i]->made_again = false;
      return static_cast<ChannelId>(i);
    }
    restart_expected_ = greeted_;
  }
  absl::StatusOr<ChannelDescriptors> regions = MakeChannel(spec);
  if (!regions.ok()) return regions.status();
  auto channel = std::make_unique<Channel>();
  channel->spec = spec;
  channel->regions = *std::move(regions);
  std::lock_guard<std::mutex> lock(mutex_);
  channels_.push_back(std::move(channel));
  return static_cast<ChannelId>(channels_.size() - 1);
}

absl::StatusOr<RemoteShimLink::Channel*> RemoteShimLink::FindLocked(ChannelId channel) {
  if (channel >= channels_.size()) {
    return absl::NotFoundError(absl::StrCat("the shim has no channel ", channel));
  }
  return channels_[channel].get();
}

absl::StatusOr<ChannelDescriptors> RemoteShimLink::Descriptors(ChannelId id) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Channel*> channel = FindLocked(id);
  if (!channel.ok()) return channel.status();
  if (control_ == nullptr) return Gone();
  absl::StatusOr<UniqueFd> call = (*channel)->regions.call_region.Duplicate();
  if (!call.ok()) return call.status();
  absl::StatusOr<UniqueFd> reply = (*channel)->regions.reply_region.Duplicate();
  if (!reply.ok()) return reply.status();
  ChannelDescriptors descriptors;
  descriptors.call_region = *std::move(call);
  descriptors.reply_region = *std::move(reply);
  return descriptors;
}

absl::Status RemoteShimLink::SendLocked(const ControlBuffer& message, int descriptor) {
  if (control_ == nullptr) return Gone();
  return descriptor >= 0 ? control_->Send(message, {&descriptor, 1}) : control_->Send(message);
}

absl::StatusOr<bh_statistics> RemoteShimLink::Ask(std::unique_lock<std::mutex>& lock, uint64_t id,
                                                  const ControlBuffer& message, int descriptor) {
  Request request;
  request.message = &message;
  request.descriptor = descriptor;
  pending_[id] = &request;
  absl::Status sent = SendLocked(message, descriptor);
  if (sent.ok()) {
    changed_.wait_for(lock, kAnswerLimit, [&request] { return request.done; });
  } else {
    request.done = true;
    request.status = absl::IsUnavailable(sent) ? Gone() : sent;
  }
  pending_.erase(id);
  if (!request.done) {
    return absl::UnavailableError("the fanotify shim did not answer within a second");
  }
  if (!request.status.ok()) return request.status;
  return request.statistics.value_or(bh_statistics());
}

absl::Status RemoteShimLink::BeginGeneration(ChannelId id, const bh_generation_spec& spec,
                                             UniqueFd descriptor_socket) {
  const uint32_t generation = spec.generation;
  absl::Status running = EnsureRunning();
  if (!running.ok()) return running;
  std::unique_lock<std::mutex> lock(mutex_);
  absl::StatusOr<Channel*> found = FindLocked(id);
  if (!found.ok()) return found.status();
  Channel& channel = **found;
  if (channel.generation != 0 || generation <= channel.highest_generation) {
    return absl::FailedPreconditionError(
        absl::StrCat("generation ", generation, " cannot begin: ", channel.generation,
                     " is active, and ", channel.highest_generation, " was the last"));
  }
  channel.generation = generation;
  channel.highest_generation = generation;
  channel.draining = false;  // as in the core: a generation that begins is not draining
  channel.begun = spec;
  channel.descriptor_socket = std::move(descriptor_socket);
  const uint64_t request = next_request_++;
  const ControlBuffer message = MakeBeginGeneration(request, id, spec);
  absl::Status status = Ask(lock, request, message, channel.descriptor_socket.get()).status();
  if (!status.ok() && channel.generation == generation) {
    // The supervisor will end the host; until then no worker is asked to begin it again.
    channel.generation = 0;
    channel.descriptor_socket.reset();
    const ControlBuffer end = MakeEndGeneration(0, id, generation, BH_END_STOPPED);
    SendLocked(end, -1).IgnoreError();
  }
  return status;
}

absl::Status RemoteShimLink::EndGeneration(ChannelId id, uint32_t generation, bh_end cause) {
  std::unique_lock<std::mutex> lock(mutex_);
  absl::StatusOr<Channel*> found = FindLocked(id);
  if (!found.ok()) return found.status();
  Channel& channel = **found;
  if (generation == 0 || channel.generation != generation) {
    return absl::NotFoundError(absl::StrCat("generation ", generation, " is not the active one"));
  }
  channel.generation = 0;
  channel.descriptor_socket.reset();
  const uint64_t request = next_request_++;
  return Ask(lock, request, MakeEndGeneration(request, id, generation, cause)).status();
}

absl::Status RemoteShimLink::SetState(ChannelId id, bool quarantined, bool draining) {
  absl::Status running = EnsureRunning();
  if (!running.ok()) return running;
  std::unique_lock<std::mutex> lock(mutex_);
  absl::StatusOr<Channel*> channel = FindLocked(id);
  if (!channel.ok()) return channel.status();
  (*channel)->quarantined = quarantined;
  (*channel)->draining = draining;
  const uint64_t request = next_request_++;
  return Ask(lock, request, MakeSetState(request, id, quarantined, draining)).status();
}

absl::Status RemoteShimLink::SetPolicy(ChannelId id, const bh_policy& policy) {
  const bh_policy core = policy;
  if (bh_policy_check(&core) != 0) {
    return absl::InvalidArgumentError(
        "a policy rule has an unknown action, or a fallback other than allow and deny");
  }
  absl::Status running = EnsureRunning();
  if (!running.ok()) return running;
  std::unique_lock<std::mutex> lock(mutex_);
  absl::StatusOr<Channel*> channel = FindLocked(id);
  if (!channel.ok()) return channel.status();
  (*channel)->spec.policy = policy;
  const uint64_t request = next_request_++;
  return Ask(lock, request, MakeSetPolicy(request, id, policy)).status();
}

absl::StatusOr<bh_statistics> RemoteShimLink::Statistics(ChannelId id) {
  absl::Status running = EnsureRunning();
  if (!running.ok()) return running;
  std::unique_lock<std::mutex> lock(mutex_);
  absl::StatusOr<Channel*> channel = FindLocked(id);
  if (!channel.ok()) return channel.status();
  const uint64_t request = next_request_++;
  return Ask(lock, request, MakeGetStatistics(request, id));
}

absl::Status RemoteShimLink::Exclude(pid_t pid) {
  std::lock_guard<std::mutex> lock(exclusions_mutex_);
  return exclusions_->Add(pid);
}

absl::Status RemoteShimLink::Include(pid_t pid) {
  std::lock_guard<std::mutex> lock(exclusions_mutex_);
  return exclusions_->Remove(pid);
}

bool RemoteShimLink::AllowsUnanswered(uint32_t callback) const {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const std::unique_ptr<Channel>& channel : channels_) {
    if (!PolicyAllows(channel->spec.policy, callback, BH_REASON_CRASHED)) return false;
  }
  return true;
}

void RemoteShimLink::SetObserver(Observer* observer) {
  std::lock_guard<std::mutex> lock(observer_mutex_);
  observer_ = observer;
}

void RemoteShimLink::NotifyShimLost() {
  std::lock_guard<std::mutex> lock(observer_mutex_);
  if (observer_ != nullptr) observer_->OnShimLost();
}

void RemoteShimLink::Read() {
  std::shared_ptr<ControlSocket> control;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    control = control_;
  }
  for (;;) {
    absl::StatusOr<ControlMessage> message = control->Receive(kForeverNs);
    if (message.ok()) {
      Handle(*message);
    } else if (absl::IsUnavailable(message.status())) {
      break;
    }
  }
  bool lost;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    control_.reset();
    worker_pid_.store(0);
    for (auto& [id, request] : pending_) {
      request->done = true;
      request->status = Gone();
    }
    for (const std::unique_ptr<Channel>& channel : channels_) {
      channel->generation = 0;
      channel->descriptor_socket.reset();
    }
    lost = !disconnecting_;
  }
  changed_.notify_all();
  if (lost) on_lost_();
}

void RemoteShimLink::Handle(ControlMessage& message) {
  if (const auto* hello = message.as<wire::ShimHello>()) {
    HandleHello(*hello);
    return;
  }
  if (const auto* result = message.as<wire::Result>()) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = pending_.find(result->request());
    if (found == pending_.end()) return;
    Request& request = *found->second;
    request.done = true;
    if (result->error() != nullptr && result->error()->size() > 0) {
      request.status = absl::FailedPreconditionError(result->error()->str());
    }
    if (result->statistics() != nullptr) request.statistics = ReadStatistics(*result->statistics());
    changed_.notify_all();
    return;
  }
  if (const auto* event = message.as<wire::ShimEvent>()) {
    std::lock_guard<std::mutex> lock(observer_mutex_);
    if (observer_ == nullptr) return;
    switch (event->event()) {
      case BH_EVENT_OVERDUE:
        observer_->OnOverdue(event->channel(), event->generation(), event->call_id());
        return;
      case BH_EVENT_VIOLATION:
        observer_->OnViolation(event->channel(), event->generation(), event->detail());
        return;
      case BH_EVENT_POISON:
        observer_->OnPoison(event->channel(), event->generation(), event->call_id());
        return;
      default:
        return;
    }
  }
}

void RemoteShimLink::HandleHello(const wire::ShimHello& hello) {
  bool takeover;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    takeover = greeted_ && !restart_expected_;
    greeted_ = true;
    restart_expected_ = false;
    worker_pid_.store(static_cast<pid_t>(hello.pid()));
    incarnation_.store(hello.incarnation());
    ResendAllLocked();
  }
  changed_.notify_all();
  if (!takeover) return;
  std::lock_guard<std::mutex> lock(observer_mutex_);
  if (observer_ != nullptr) observer_->OnTakeover(hello.incarnation(), hello.adopted());
}

// Under the lock throughout: an order to end a generation must not overtake this order to begin it.
void RemoteShimLink::ResendAllLocked() {
  for (size_t i = 0; i < channels_.size(); ++i) {
    const Channel& channel = *channels_[i];
    const ChannelId id = static_cast<ChannelId>(i);
    SendLocked(MakeSetPolicy(0, id, channel.spec.policy), -1).IgnoreError();
    if (channel.generation != 0) {
      SendLocked(MakeBeginGeneration(0, id, channel.begun), channel.descriptor_socket.get())
          .IgnoreError();
    }
    SendLocked(MakeSetState(0, id, channel.quarantined, channel.draining), -1).IgnoreError();
  }
  for (const auto& [id, request] : pending_) {
    if (!request->done) SendLocked(*request->message, request->descriptor).IgnoreError();
  }
}

}  // namespace bulkhead
