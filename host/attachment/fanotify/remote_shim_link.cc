// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/remote_shim_link.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/attachment/fanotify/link_record.h"
#include "ipc/abi/events.h"
#include "ipc/check.h"
#include "ipc/control/fields.h"
#include "ipc/control/shim_protocol.h"
#include "ipc/fanotify/journal.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

// What a link promises (ipc/shim_link.h).
constexpr uint64_t kAnswerWithinNs = kNanosecondsPerSecond;
// The lock is held meanwhile.
constexpr uint64_t kResendWithinNs = kNanosecondsPerSecond / 4;

// For a wait that leaves time for what follows.
uint64_t HalfUntil(uint64_t until_ns) {
  const uint64_t now_ns = MonotonicNowNs();
  return until_ns > now_ns ? now_ns + (until_ns - now_ns) / 2 : until_ns;
}

absl::Status Gone() {
  return absl::UnavailableError("the fanotify shim has died; the next one is being started");
}

absl::Status WorkerSilent() {
  return absl::UnavailableError("the fanotify shim did not answer within a second");
}

constexpr char kLinkItem[] = "link";
constexpr char kChannelItems[] = "channel/";

absl::Status KeeperSilent() {
  return absl::UnavailableError("the fanotify shim's keeper does not answer");
}

}  // namespace

// The right to order the keeper, of one thread at a time.
class RemoteShimLink::KeeperTurn {
 public:
  KeeperTurn(RemoteShimLink& link, uint64_t until_ns) : link_(link) {
    const MutexLock lock(link_.mutex_);
    while (link_.keeper_turn_taken_) {
      if (!link_.changed_.WaitUntil(link_.mutex_, until_ns)) return;
    }
    link_.keeper_turn_taken_ = true;
    taken_ = true;
  }
  KeeperTurn(const KeeperTurn&) = delete;
  KeeperTurn& operator=(const KeeperTurn&) = delete;
  ~KeeperTurn() {
    if (!taken_) return;
    {
      const MutexLock lock(link_.mutex_);
      link_.keeper_turn_taken_ = false;
    }
    link_.changed_.NotifyAll();
  }
  // False: another thread had it until until_ns.
  bool taken() const { return taken_; }

  // REQUIRES: taken().
  void Replace(UniqueFd keeper) { link_.keeper_ = std::move(keeper); }
  absl::StatusOr<ChannelDescriptors> Order(const KeeperRequest& order, uint64_t until_ns);
  absl::StatusOr<ChannelDescriptors> MakeChannel(const ChannelSpec& spec, uint64_t until_ns);

 private:
  RemoteShimLink& link_;
  bool taken_ = false;
};

RemoteShimLink::RemoteShimLink(ExclusionTable* exclusions, const Limits& limits,
                               std::function<void()> on_lost,
                               std::shared_ptr<DescriptorStore> store)
    : exclusions_(exclusions),
      limits_(limits),
      on_lost_(std::move(on_lost)),
      store_(std::move(store)) {}

RemoteShimLink::~RemoteShimLink() { Disconnect(); }

// While it runs the link is not connected, so that no other function waits for it.
absl::Status RemoteShimLink::Connect(ControlSocket control, UniqueFd keeper) {
  if (reader_.joinable()) reader_.join();
  KeeperTurn turn(*this, kForeverNs);  // the other threads' turns are bounded
  UniqueFd kept;
  if (store_ != nullptr) {
    if (absl::StatusOr<UniqueFd> copy = keeper.Duplicate(); copy.ok()) kept = *std::move(copy);
  }
  turn.Replace(std::move(keeper));
  KeeperRequest configure = {};
  configure.order = KeeperOrder::kConfigure;
  configure.readers = limits_.readers;
  configure.in_flight_max = limits_.in_flight_max;
  absl::Status status = turn.Order(configure, MonotonicAfterNs(kAnswerWithinNs)).status();
  if (!status.ok()) return status;

  std::vector<ChannelSpec> specs;
  {
    const MutexLock lock(mutex_);
    for (const std::unique_ptr<Channel>& channel : channels_) specs.push_back(channel->spec);
  }
  std::vector<ChannelDescriptors> made;
  for (const ChannelSpec& spec : specs) {
    absl::StatusOr<ChannelDescriptors> regions =
        turn.MakeChannel(spec, MonotonicAfterNs(kAnswerWithinNs));
    if (!regions.ok()) return regions.status();
    made.push_back(*std::move(regions));
  }
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < made.size(); ++i) {
    Channel& channel = *channels_[i];
    channel.regions = std::move(made[i]);
    channel.generation = 0;
    channel.descriptor_socket.reset();
    channel.ended = 0;
    channel.made_again = true;
  }
  control_ = std::make_shared<ControlSocket>(std::move(control));
  running_ = false;
  greeted_ = false;
  restart_expected_ = false;
  disconnecting_ = false;
  kept_keeper_ = std::move(kept);
  worker_pid_.store(0);
  KeepSockets();
  for (size_t i = 0; i < channels_.size(); ++i) Keep(static_cast<ChannelId>(i));
  reader_ = std::thread([this] { Read(); });
  return absl::OkStatus();
}

void RemoteShimLink::Disconnect() {
  {
    const MutexLock lock(mutex_);
    disconnecting_ = true;
    // Wakes the link's reader, and closes the worker's end.
    if (control_ != nullptr) shutdown(control_->fd(), SHUT_RDWR);
  }
  if (reader_.joinable()) reader_.join();
  KeeperTurn(*this, kForeverNs).Replace(UniqueFd());
}

absl::Status RemoteShimLink::EnsureRunning(uint64_t until_ns) {
  const MutexLock lock(mutex_);
  // Between two keepers the attachment is at it.
  while (control_ == nullptr && !disconnecting_) {
    if (!changed_.WaitUntil(mutex_, until_ns)) break;
  }
  return AwaitWorker(until_ns);
}

absl::Status RemoteShimLink::AwaitWorker(uint64_t until_ns) {
  if (control_ == nullptr) return Gone();
  if (!running_) {
    mutex_.Unlock();
    absl::Status status = KeeperSilent();
    {
      KeeperTurn turn(*this, HalfUntil(until_ns));
      KeeperRequest run = {};
      run.order = KeeperOrder::kRun;  // of no effect when a worker runs already
      if (turn.taken()) status = turn.Order(run, until_ns).status();
      const MutexLock lock(mutex_);
      if (status.ok()) running_ = true;  // within the turn: the same keeper's
    }
    mutex_.Lock();
    if (!status.ok()) return status;
  }
  while (!greeted_ && control_ != nullptr) {
    if (!changed_.WaitUntil(mutex_, until_ns)) {
      return absl::UnavailableError("the fanotify shim is still starting");
    }
  }
  return control_ == nullptr ? Gone() : absl::OkStatus();
}

absl::StatusOr<ChannelDescriptors> RemoteShimLink::KeeperTurn::Order(const KeeperRequest& order,
                                                                     uint64_t until_ns) {
  BULKHEAD_CHECK(taken_);
  const UniqueFd& keeper = link_.keeper_;
  KeeperRequest request = order;
  request.version = kKeeperVersion;
  request.number = ++link_.orders_;
  if (!keeper.valid()) return Gone();
  if (send(keeper.get(), &request, sizeof(request), MSG_NOSIGNAL | MSG_DONTWAIT) !=
      sizeof(request)) {
    return errno == EAGAIN ? KeeperSilent() : Gone();
  }
  for (;;) {
    if (!PollUntil(keeper.get(), POLLIN, until_ns)) return KeeperSilent();
    KeeperReply reply = {};
    iovec bytes = {.iov_base = &reply, .iov_len = sizeof(reply)};
    alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t received = recvmsg(keeper.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
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
    if (reply.number != request.number) continue;  // to an order that was given up
    if (reply.failed != 0) {
      return absl::InvalidArgumentError(
          std::string(reply.error, strnlen(reply.error, sizeof(reply.error))));
    }
    return descriptors;
  }
}

absl::StatusOr<ChannelDescriptors> RemoteShimLink::KeeperTurn::MakeChannel(const ChannelSpec& spec,
                                                                           uint64_t until_ns) {
  KeeperRequest request = {};
  request.order = KeeperOrder::kAddChannel;
  request.spec = spec;
  std::memcpy(request.driver, spec.driver.data(),
              std::min(spec.driver.size(), sizeof(request.driver) - 1));
  absl::StatusOr<ChannelDescriptors> regions = Order(request, until_ns);
  if (regions.ok() && !regions->reply_region.valid()) {
    return absl::InternalError("the keeper made a channel and did not send it");
  }
  // It may have made the channel all the same, under a number that this link does not know.
  // Without its socket it ends, and the next keeper has the channels of this link.
  if (absl::IsUnavailable(regions.status())) link_.keeper_.reset();
  return regions;
}

absl::StatusOr<ChannelId> RemoteShimLink::AddChannel(const ChannelSpec& spec) {
  const uint64_t until_ns = MonotonicAfterNs(kAnswerWithinNs);
  KeeperTurn turn(*this, HalfUntil(until_ns));
  if (!turn.taken()) return KeeperSilent();
  {
    const MutexLock lock(mutex_);
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
  absl::StatusOr<ChannelDescriptors> regions = turn.MakeChannel(spec, until_ns);
  if (!regions.ok()) return regions.status();
  auto channel = std::make_unique<Channel>();
  channel->spec = spec;
  channel->regions = *std::move(regions);
  const MutexLock lock(mutex_);
  channels_.push_back(std::move(channel));
  const ChannelId id = static_cast<ChannelId>(channels_.size() - 1);
  Keep(id);
  return id;
}

uint32_t RemoteShimLink::Serving(ChannelId id) {
  const MutexLock lock(mutex_);
  absl::StatusOr<Channel*> channel = Find(id);
  return channel.ok() ? (*channel)->generation : 0;
}

absl::StatusOr<RemoteShimLink::Channel*> RemoteShimLink::Find(ChannelId channel) {
  if (channel >= channels_.size()) {
    return absl::NotFoundError(absl::StrCat("the shim has no channel ", channel));
  }
  return channels_[channel].get();
}

absl::StatusOr<ChannelDescriptors> RemoteShimLink::Descriptors(ChannelId id) {
  const MutexLock lock(mutex_);
  absl::StatusOr<Channel*> channel = Find(id);
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

absl::Status RemoteShimLink::Send(const ControlBuffer& message, int descriptor, uint64_t until_ns) {
  if (control_ == nullptr) return Gone();
  const absl::Span<const int> descriptors(&descriptor, descriptor >= 0 ? 1 : 0);
  absl::Status status = control_->Send(message, descriptors, until_ns);
  if (!absl::IsDeadlineExceeded(status)) return status;
  resend_wanted_ = true;
  return absl::UnavailableError("the fanotify shim does not read: its control socket is full");
}

absl::StatusOr<RemoteShimLink::Request> RemoteShimLink::Ask(uint64_t id,
                                                            const ControlBuffer& message,
                                                            int descriptor, uint64_t until_ns) {
  Request request;
  request.message = &message;
  request.descriptor = descriptor;
  pending_[id] = &request;
  absl::Status sent = Send(message, descriptor, /*until_ns=*/0);
  if (sent.ok()) {
    while (!request.done && changed_.WaitUntil(mutex_, until_ns)) {
    }
  } else {
    request.done = true;
    request.status = std::move(sent);
  }
  pending_.erase(id);
  if (!request.done) return WorkerSilent();
  if (!request.status.ok()) return request.status;
  return request;
}

absl::Status RemoteShimLink::BeginGeneration(ChannelId id, const bh_generation_spec& spec,
                                             UniqueFd descriptor_socket) {
  const uint32_t generation = spec.generation;
  const uint64_t until_ns = MonotonicAfterNs(kAnswerWithinNs);
  const MutexLock lock(mutex_);
  if (absl::Status running = AwaitWorker(until_ns); !running.ok()) return running;
  absl::StatusOr<Channel*> found = Find(id);
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
  Keep(id);  // before the shim knows: one that it may serve is ended by the next link
  const uint64_t request = next_request_++;
  const ControlBuffer message = MakeBeginGeneration(request, id, spec);
  absl::Status status = Ask(request, message, channel.descriptor_socket.get(), until_ns).status();
  if (!status.ok() && channel.generation == generation) {
    // The supervisor will end the host; until then no worker is asked to begin it again.
    channel.End(BH_END_STOPPED);
    Keep(id);
    const ControlBuffer end = MakeEndGeneration(0, id, generation, BH_END_STOPPED);
    Send(end, -1, /*until_ns=*/0).IgnoreError();
  }
  return status;
}

absl::StatusOr<bh_in_hand> RemoteShimLink::EndGeneration(ChannelId id, uint32_t generation,
                                                         bh_end cause) {
  const uint64_t until_ns = MonotonicAfterNs(kAnswerWithinNs);
  const MutexLock lock(mutex_);
  absl::StatusOr<Channel*> found = Find(id);
  if (!found.ok()) return found.status();
  Channel& channel = **found;
  if (generation == 0 || channel.generation != generation) {
    return absl::NotFoundError(absl::StrCat("generation ", generation, " is not the active one"));
  }
  channel.End(cause);
  const uint64_t request = next_request_++;
  absl::StatusOr<Request> answer =
      Ask(request, MakeEndGeneration(request, id, generation, cause), -1, until_ns);
  Keep(id);  // after it, likewise
  if (!answer.ok()) return answer.status();
  return answer->in_hand;
}

absl::Status RemoteShimLink::SetState(ChannelId id, bool quarantined, bool draining) {
  const uint64_t until_ns = MonotonicAfterNs(kAnswerWithinNs);
  const MutexLock lock(mutex_);
  absl::StatusOr<Channel*> channel = Find(id);
  if (!channel.ok()) return channel.status();
  (*channel)->quarantined = quarantined;
  (*channel)->draining = draining;
  Keep(id);
  if (absl::Status running = AwaitWorker(until_ns); !running.ok()) return running;
  const uint64_t request = next_request_++;
  return Ask(request, MakeSetState(request, id, (*channel)->quarantined, (*channel)->draining), -1,
             until_ns)
      .status();
}

absl::Status RemoteShimLink::SetPolicy(ChannelId id, const bh_policy& policy) {
  const bh_policy core = policy;
  if (bh_policy_check(&core) != 0) {
    return absl::InvalidArgumentError(
        "a policy rule has an unknown action, or a fallback other than allow and deny");
  }
  const uint64_t until_ns = MonotonicAfterNs(kAnswerWithinNs);
  const MutexLock lock(mutex_);
  absl::StatusOr<Channel*> channel = Find(id);
  if (!channel.ok()) return channel.status();
  (*channel)->spec.policy = policy;
  Keep(id);
  if (absl::Status running = AwaitWorker(until_ns); !running.ok()) return running;
  const uint64_t request = next_request_++;
  return Ask(request, MakeSetPolicy(request, id, (*channel)->spec.policy), -1, until_ns).status();
}

absl::StatusOr<bh_statistics> RemoteShimLink::Statistics(ChannelId id) {
  const uint64_t until_ns = MonotonicAfterNs(kAnswerWithinNs);
  const MutexLock lock(mutex_);
  absl::StatusOr<Channel*> channel = Find(id);
  if (!channel.ok()) return channel.status();
  if (absl::Status running = AwaitWorker(until_ns); !running.ok()) return running;
  const uint64_t request = next_request_++;
  absl::StatusOr<Request> answer = Ask(request, MakeGetStatistics(request, id), -1, until_ns);
  if (!answer.ok()) return answer.status();
  return answer->statistics;
}

absl::Status RemoteShimLink::Exclude(pid_t pid) {
  const MutexLock lock(exclusions_mutex_);
  return exclusions_->Add(pid);
}

absl::Status RemoteShimLink::ExcludePeer(pid_t pid) {
  const MutexLock lock(exclusions_mutex_);
  return exclusions_->AddPeer(pid);
}

absl::Status RemoteShimLink::IncludePeer(pid_t pid) {
  const MutexLock lock(exclusions_mutex_);
  return exclusions_->RemovePeer(pid);
}

absl::Status RemoteShimLink::Include(pid_t pid) {
  const MutexLock lock(exclusions_mutex_);
  return exclusions_->Remove(pid);
}

bool RemoteShimLink::AllowsUnanswered(uint32_t callback) const {
  const MutexLock lock(mutex_);
  for (const std::unique_ptr<Channel>& channel : channels_) {
    if (!PolicyAllows(channel->spec.policy, callback, BH_REASON_CRASHED)) return false;
  }
  return true;
}

void RemoteShimLink::SetObserver(Observer* observer) {
  const MutexLock lock(observer_mutex_);
  observer_ = observer;
}

void RemoteShimLink::NotifyShimLost() {
  const MutexLock lock(observer_mutex_);
  if (observer_ != nullptr) observer_->OnShimLost();
}

void RemoteShimLink::Read() {
  std::shared_ptr<ControlSocket> control;
  {
    const MutexLock lock(mutex_);
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
    const MutexLock lock(mutex_);
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
  changed_.NotifyAll();
  if (lost) on_lost_();
}

void RemoteShimLink::Handle(ControlMessage& message) {
  if (const auto* hello = message.as<wire::ShimHello>()) {
    HandleHello(*hello);
    return;
  }
  if (const auto* result = message.as<wire::Result>()) {
    const MutexLock lock(mutex_);
    if (const auto found = pending_.find(result->request()); found != pending_.end()) {
      Request& request = *found->second;
      request.done = true;
      if (result->error() != nullptr && result->error()->size() > 0) {
        request.status = absl::FailedPreconditionError(result->error()->str());
      }
      if (result->statistics() != nullptr) {
        request.statistics = ReadStatistics(*result->statistics());
      }
      request.in_hand = ReadInHand(*result);
      changed_.NotifyAll();
    }
    if (resend_wanted_) ResendAll();  // the worker reads again
    return;
  }
  if (const auto* event = message.as<wire::ShimEvent>()) {
    const MutexLock lock(observer_mutex_);
    if (observer_ == nullptr) return;
    switch (event->event()) {
      case BH_EVENT_HUNG:
        observer_->OnHung(event->channel(), event->generation(), event->call_id(), event->detail());
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
  if (const auto* denial = message.as<wire::ShimDenial>()) {
    const absl::StatusOr<bh_denial> record = ReadShimDenial(*denial);
    const MutexLock lock(observer_mutex_);
    if (record.ok() && observer_ != nullptr) observer_->OnDenial(denial->channel(), *record);
  }
}

void RemoteShimLink::HandleHello(const wire::ShimHello& hello) {
  bool takeover;
  {
    const MutexLock lock(mutex_);
    takeover = greeted_ && !restart_expected_;
    greeted_ = true;
    restart_expected_ = false;
    worker_pid_.store(static_cast<pid_t>(hello.pid()));
    incarnation_.store(hello.incarnation());
    KeepSockets();
    ResendAll();
  }
  changed_.NotifyAll();
  if (!takeover) return;
  const MutexLock lock(observer_mutex_);
  if (observer_ != nullptr) observer_->OnTakeover(hello.incarnation(), hello.adopted());
}

// Under the lock throughout: an order to end a generation must not overtake this order to begin it.
void RemoteShimLink::ResendAll() {
  resend_wanted_ = false;
  const uint64_t until_ns = MonotonicAfterNs(kResendWithinNs);
  for (size_t i = 0; i < channels_.size(); ++i) {
    const Channel& channel = *channels_[i];
    const ChannelId id = static_cast<ChannelId>(i);
    Send(MakeSetPolicy(0, id, channel.spec.policy), -1, until_ns).IgnoreError();
    if (channel.ended != 0) {
      Send(MakeEndGeneration(0, id, channel.ended, channel.end), -1, until_ns).IgnoreError();
    }
    if (channel.generation != 0) {
      Send(MakeBeginGeneration(0, id, channel.begun), channel.descriptor_socket.get(), until_ns)
          .IgnoreError();
    }
    Send(MakeSetState(0, id, channel.quarantined, channel.draining), -1, until_ns).IgnoreError();
  }
  for (const auto& [id, request] : pending_) {
    if (!request->done) Send(*request->message, request->descriptor, until_ns).IgnoreError();
  }
}

// ---- For the next link

void RemoteShimLink::KeepSockets() {
  if (store_ == nullptr || control_ == nullptr || !kept_keeper_.valid()) return;
  const LinkRecord record = {.worker_pid = worker_pid_.load(), .incarnation = incarnation_.load()};
  store_->Put(kLinkItem, BytesOf(record), {control_->fd(), kept_keeper_.get()});
}

void RemoteShimLink::Keep(ChannelId id) {
  if (store_ == nullptr) return;
  const Channel& channel = *channels_[id];
  ChannelRecord record = {};
  record.spec = channel.spec;
  channel.spec.driver.copy(record.driver, sizeof(record.driver) - 1);
  record.quarantined = channel.quarantined;
  record.draining = channel.draining;
  record.made_again = channel.made_again;
  record.generation = channel.generation;
  record.highest_generation = channel.highest_generation;
  record.ended = channel.ended;
  record.end = channel.end;
  record.begun = channel.begun;
  std::vector<int> descriptors = {channel.regions.call_region.get(),
                                  channel.regions.reply_region.get()};
  if (channel.descriptor_socket.valid()) descriptors.push_back(channel.descriptor_socket.get());
  store_->Put(absl::StrCat(kChannelItems, id), BytesOf(record), descriptors);
}

absl::StatusOr<std::unique_ptr<RemoteShimLink::Channel>> RemoteShimLink::ReadChannel(
    DescriptorStore::Item item) {
  ChannelRecord record;
  const size_t count = item.descriptors.size();
  if (!FromBytes(item.bytes, &record) || count < 2) {
    return absl::InvalidArgumentError("a channel that was left can't be read");
  }
  if ((record.generation != 0) != (count == 3)) {
    return absl::InvalidArgumentError("a channel that was left has no socket for files");
  }
  auto channel = std::make_unique<Channel>();
  channel->spec =
      ChannelSpec(std::string(record.driver, strnlen(record.driver, sizeof(record.driver))));
  static_cast<bh_channel_spec&>(channel->spec) = record.spec;
  channel->regions.call_region = std::move(item.descriptors[0]);
  channel->regions.reply_region = std::move(item.descriptors[1]);
  if (count == 3) channel->descriptor_socket = std::move(item.descriptors[2]);
  channel->quarantined = record.quarantined;
  channel->draining = record.draining;
  channel->made_again = record.made_again;
  channel->generation = record.generation;
  channel->highest_generation = record.highest_generation;
  channel->ended = record.ended;
  channel->end = record.end;
  channel->begun = record.begun;
  return channel;
}

absl::Status RemoteShimLink::Adopt() {
  std::optional<DescriptorStore::Item> sockets = store_->Get(kLinkItem);
  if (!sockets) return absl::NotFoundError("no link was left");
  LinkRecord record;
  if (!FromBytes(sockets->bytes, &record) || sockets->descriptors.size() != 2) {
    return absl::InvalidArgumentError("the sockets of the shim that was left can't be read");
  }
  std::vector<std::unique_ptr<Channel>> channels;
  for (size_t i = 0; i < store_->Names(kChannelItems).size(); ++i) {
    std::optional<DescriptorStore::Item> item = store_->Get(absl::StrCat(kChannelItems, i));
    if (!item) return absl::InvalidArgumentError("a channel that was left is missing");
    absl::StatusOr<std::unique_ptr<Channel>> channel = ReadChannel(*std::move(item));
    if (!channel.ok()) return channel.status();
    channels.push_back(*std::move(channel));
  }
  KeeperTurn turn(*this, kForeverNs);
  absl::StatusOr<UniqueFd> copy = sockets->descriptors[1].Duplicate();
  if (!copy.ok()) return copy.status();
  turn.Replace(std::move(sockets->descriptors[1]));
  // Answers to the link before may still come; its numbers are below.
  orders_ = static_cast<uint32_t>(MonotonicNowNs() / kNanosecondsPerMillisecond);
  const MutexLock lock(mutex_);
  next_request_ = MonotonicNowNs();
  channels_ = std::move(channels);
  control_ = std::make_shared<ControlSocket>(std::move(sockets->descriptors[0]));
  kept_keeper_ = *std::move(copy);
  worker_pid_.store(record.worker_pid);
  incarnation_.store(record.incarnation);
  running_ = greeted_ = record.worker_pid != 0;
  reader_ = std::thread([this] { Read(); });
  return absl::OkStatus();
}

}  // namespace bulkhead
