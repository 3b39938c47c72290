// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/operator_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "ipc/check.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kContentWithinNs = 60 * kNanosecondsPerSecond;
// How long no peer is accepted after one could not be, for want of descriptors or memory: the
// listener stays readable, and a poll of it would return at once, again and again.
constexpr uint64_t kNoRoomNs = kNanosecondsPerSecond / 10;

std::string TextOf(const flatbuffers::String* text) { return text == nullptr ? "" : text->str(); }

ControlBuffer Done(const absl::Status& status, uint64_t version = 0) {
  return MakeDone(std::string(status.message()), version);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OperatorServer>> OperatorServer::Listen(const std::string& path,
                                                                       Supervisor* supervisor,
                                                                       Hooks hooks,
                                                                       uint64_t request_within_ns) {
  absl::StatusOr<ControlListener> listener = ControlListener::Listen(path);
  if (!listener.ok()) return listener.status();
  std::unique_ptr<OperatorServer> server(new OperatorServer);
  server->supervisor_ = supervisor;
  server->hooks_ = std::move(hooks);
  server->request_within_ns_ = request_within_ns;
  server->listener_ = *std::move(listener);
  server->stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  server->admitted_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  BULKHEAD_CHECK(server->stop_.valid() && server->admitted_.valid());
  server->reader_ = std::thread([raw = server.get()] { raw->Read(); });
  for (std::thread& thread : server->threads_) {
    thread = std::thread([raw = server.get()] { raw->Answer(); });
  }
  return server;
}

OperatorServer::~OperatorServer() {
  {
    const MutexLock lock(groups_mutex_);
    closing_ = true;
  }
  taken_.NotifyAll();
  const uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof(one));
  reader_.join();
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  asked_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status OperatorServer::Admit(const std::string& path, const OperatorGroups& groups) {
  const MutexLock lock(groups_mutex_);
  if (closing_) return absl::CancelledError("the service ends");
  const std::string at = groups.any() ? path : "";
  if (at != admits_at_) {
    ControlListener next;
    if (!at.empty()) {
      absl::StatusOr<ControlListener> listener = ControlListener::Listen(at, /*mode=*/0666);
      if (!listener.ok()) return listener.status();
      next = *std::move(listener);
    }
    next_admits_ = std::move(next);
    admits_at_ = at;
    eventfd_write(admitted_.get(), 1);
    // The reader closes the one before: a next call could listen at its path.
    while (next_admits_.has_value() && !closing_) taken_.Wait(groups_mutex_);
  }
  groups_ = groups;
  return absl::OkStatus();
}

void OperatorServer::TakeAdmitted(ControlListener& operators) {
  eventfd_t ignored;
  eventfd_read(admitted_.get(), &ignored);
  {
    const MutexLock lock(groups_mutex_);
    if (!next_admits_.has_value()) return;
    operators = *std::move(next_admits_);
    next_admits_.reset();  // the one before, with its path
  }
  taken_.NotifyAll();
}

OperatorGroups OperatorServer::Groups() const {
  const MutexLock lock(groups_mutex_);
  return groups_;
}

bool OperatorServer::MayChange(const OperatorPeer& who) const {
  return MayAsk(RoleOf(who, Groups(), geteuid()), *FindOperatorRequest(wire::Message::SignIn));
}

void OperatorServer::Read() {
  std::deque<Peer> peers;  // the oldest first
  ControlListener operators;
  uint64_t no_room_until_ns = 0;
  for (;;) {
    const uint64_t now_ns = MonotonicNowNs();
    const bool accepts = now_ns >= no_room_until_ns;
    std::vector<pollfd> ready = {{stop_.get(), POLLIN, 0},
                                 {accepts ? listener_.fd() : -1, POLLIN, 0},
                                 {admitted_.get(), POLLIN, 0},
                                 {accepts ? operators.fd() : -1, POLLIN, 0}};
    for (const Peer& peer : peers) ready.push_back({peer.socket.fd(), POLLIN, 0});
    uint64_t until_ns = accepts ? kForeverNs : no_room_until_ns;
    if (!peers.empty()) until_ns = std::min(until_ns, peers.front().until_ns);
    int timeout_ms = -1;
    if (until_ns != kForeverNs) {
      const uint64_t left_ns = std::max(until_ns, now_ns) - now_ns;
      timeout_ms =
          static_cast<int>(std::min<uint64_t>(left_ns / kNanosecondsPerMillisecond, 60'000)) + 1;
    }
    poll(ready.data(), ready.size(), timeout_ms);
    if (ready[0].revents != 0) return;
    peers.erase(
        std::remove_if(peers.begin(), peers.end(), [this](Peer& peer) { return !Hear(peer); }),
        peers.end());
    const bool room = (ready[1].revents == 0 || Accept(listener_, peers)) &&
                      (ready[3].revents == 0 || Accept(operators, peers));
    if (!room) no_room_until_ns = MonotonicAfterNs(kNoRoomNs);
    if (ready[2].revents != 0) TakeAdmitted(operators);
  }
}

namespace {

size_t RoomOf(OperatorRole role) {
  return role == OperatorRole::kOwner ? OperatorServer::kPeersMax : OperatorServer::kGroupPeersMax;
}

}  // namespace

// Of those that share the room with the next one, the oldest goes.
void OperatorServer::MakeRoom(std::deque<Peer>& peers, const Peer& next) {
  const auto drop_oldest = [&peers](size_t max, const auto& shares) {
    if (static_cast<size_t>(std::count_if(peers.begin(), peers.end(), shares)) < max) return;
    peers.erase(std::find_if(peers.begin(), peers.end(), shares));
  };
  if (next.role != OperatorRole::kOwner) {
    drop_oldest(kUserPeersMax, [&next](const Peer& peer) {
      return peer.role != OperatorRole::kOwner && peer.who.user == next.who.user;
    });
  }
  drop_oldest(RoomOf(next.role), [&next](const Peer& peer) { return peer.role == next.role; });
}

bool OperatorServer::Accept(ControlListener& listener, std::deque<Peer>& peers) {
  absl::StatusOr<ControlSocket> socket = listener.Accept(0);
  // DeadlineExceeded: the peer is gone again.
  if (!socket.ok()) return absl::IsDeadlineExceeded(socket.status());
  absl::StatusOr<OperatorPeer> who = PeerOf(*socket);
  if (!who.ok()) return true;
  const OperatorGroups groups = Groups();
  const OperatorRole role = RoleOf(*who, groups, geteuid());
  if (role == OperatorRole::kNone) {
    // At once, whatever it would ask: it holds nothing here.
    const OperatorRequest& least = *FindOperatorRequest(wire::Message::GetStatus);
    (void)socket->ReceiveWithoutDescriptors(0);
    (void)socket->Send(MakeRefused(RefusalText(*who, least, groups)), {}, /*until_ns=*/0);
    return true;
  }
  Peer peer = {*std::move(socket), *std::move(who), role, MonotonicAfterNs(request_within_ns_)};
  MakeRoom(peers, peer);
  peers.push_back(std::move(peer));
  return true;
}

bool OperatorServer::Hear(Peer& peer) {
  absl::StatusOr<ControlMessage> message = peer.socket.ReceiveWithoutDescriptors(0);
  if (!message.ok()) {
    return absl::IsDeadlineExceeded(message.status()) && MonotonicNowNs() < peer.until_ns;
  }
  const OperatorRequest* request = FindOperatorRequest(message->type());
  const OperatorGroups groups = Groups();
  const OperatorRole role = RoleOf(peer.who, groups, geteuid());
  const bool is_shutdown = message->as<wire::Shutdown>() != nullptr;
  ControlBuffer answer;
  if (request == nullptr) {
    answer = Done(
        absl::InvalidArgumentError(std::string(message->name()) + " is no operator's request"));
  } else if (!MayAsk(role, *request)) {
    answer = MakeRefused(RefusalText(peer.who, *request, groups));
  } else if (is_shutdown) {
    answer = Carry(*message, peer.who, role);
  } else if (Enqueue(peer, role, *message)) {
    return false;
  } else {
    answer =
        Done(absl::ResourceExhaustedError("the instance is busy with other requests; try again"));
  }
  (void)peer.socket.Send(answer, {}, /*until_ns=*/0);
  return false;
}

bool OperatorServer::Enqueue(Peer& peer, OperatorRole role, ControlMessage& message) {
  {
    const MutexLock lock(mutex_);
    const auto waiting = [this](const auto& shares) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return static_cast<size_t>(std::count_if(requests_.begin(), requests_.end(), shares));
    };
    if (waiting([role](const Request& one) { return one.role == role; }) == RoomOf(role)) {
      return false;
    }
    const uid_t user = peer.who.user;
    if (role != OperatorRole::kOwner && waiting([user](const Request& one) {
                                          return one.role != OperatorRole::kOwner &&
                                                 one.who.user == user;
                                        }) == kUserPeersMax) {
      return false;
    }
    requests_.push_back({std::move(peer.socket), peer.who, role, std::move(message)});
  }
  asked_.NotifyOne();
  return true;
}

// A reader beyond those at work waits for one of their threads, which looks again then.
std::deque<OperatorServer::Request>::iterator OperatorServer::Next() {
  auto next = requests_.end();
  for (auto one = requests_.begin(); one != requests_.end(); ++one) {
    if (one->role == OperatorRole::kReader && readers_at_work_ == kReadersAtWorkMax) continue;
    if (next == requests_.end() || one->role > next->role) next = one;
  }
  return next;
}

void OperatorServer::Answer() {
  for (;;) {
    std::optional<Request> request;
    {
      const MutexLock lock(mutex_);
      auto next = Next();
      for (; next == requests_.end() && !stopping_; next = Next()) asked_.Wait(mutex_);
      if (stopping_) return;
      request = std::move(*next);
      requests_.erase(next);
      if (request->role == OperatorRole::kReader) ++readers_at_work_;
    }
    (void)request->peer.Send(Carry(request->message, request->who, request->role));
    if (request->role != OperatorRole::kReader) continue;
    const MutexLock lock(mutex_);
    --readers_at_work_;
  }
}

// REQUIRES: one that is in the table, from a peer with the right to it.
ControlBuffer OperatorServer::Carry(const ControlMessage& request, const OperatorPeer& who,
                                    OperatorRole role) {
  const bool words = role > OperatorRole::kReader;
  if (request.as<wire::GetStatus>() != nullptr) {
    StatusFields status = supervisor_->Status(words);
    hooks_.complete(status);
    return MakeStatus(status);
  }
  if (const auto* events = request.as<wire::GetEvents>(); events != nullptr && hooks_.events) {
    return MakeEvents(hooks_.events(events->after(), words));
  }
  const auto* content = request.as<wire::SetContent>();
  const auto* release = request.as<wire::Release>();
  const bool reload = request.as<wire::Reload>() != nullptr;
  if (content != nullptr || release != nullptr || reload) {  // they wait for a driver to serve
    const bool room = waiting_.fetch_add(1) < kWaitingMax;
    ControlBuffer answer =
        !room                ? Done(absl::ResourceExhaustedError(
                                   "too many requests wait for their drivers to serve; try again later"))
        : content != nullptr ? PutInForce(*content)
        : reload             ? Done(Reload())
                             : Done(supervisor_->LiftQuarantine(TextOf(release->driver()),
                                                                MonotonicAfterNs(kContentWithinNs)));
    waiting_.fetch_sub(1);
    return answer;
  }
  if (request.as<wire::SignIn>() != nullptr) return SignIn(who);
  if (const auto* shutdown = request.as<wire::Shutdown>()) {
    return Done(hooks_.shut_down(ReadShutdown(*shutdown)));
  }
  return Done(absl::UnimplementedError(std::string(request.name()) +
                                       " is nothing that this instance can answer"));
}

absl::Status OperatorServer::Reload() {
  if (hooks_.reload) return hooks_.reload();
  return absl::UnimplementedError("this instance has no configuration to read again");
}

ControlBuffer OperatorServer::SignIn(const OperatorPeer& who) {
  if (!hooks_.sign_in) return Done(absl::UnimplementedError("this instance has no page"));
  const absl::StatusOr<std::string> link = hooks_.sign_in(who);
  return link.ok() ? MakeSignInLink(*link) : Done(link.status());
}

ControlBuffer OperatorServer::PutInForce(const wire::SetContent& content) {
  const absl::StatusOr<uint64_t> version = supervisor_->SetContent(
      TextOf(content.driver()), TextOf(content.path()), MonotonicAfterNs(kContentWithinNs));
  return version.ok() ? Done(absl::OkStatus(), *version) : Done(version.status());
}

absl::StatusOr<ControlMessage> AskInstance(const std::string& path, const ControlBuffer& request,
                                           uint64_t within_ns) {
  static_assert(kOperatorAnswersWithinNs > kContentWithinNs);
  absl::StatusOr<ControlSocket> socket = ControlSocket::Connect(path);
  if (!socket.ok()) return socket.status();
  // A service that refuses answers, and closes its end, before it has read the request: then the
  // first call fails, and the answer is there.
  absl::Status sent = socket->Send(request);
  if (!sent.ok() && !absl::IsUnavailable(sent)) return sent;
  absl::StatusOr<ControlMessage> answer = socket->Receive(MonotonicAfterNs(within_ns));
  if (!absl::IsUnavailable(answer.status())) return answer;
  return socket->Receive(0);
}

}  // namespace bulkhead
