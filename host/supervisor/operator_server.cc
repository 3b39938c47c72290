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
  BULKHEAD_CHECK(server->stop_.valid());
  server->reader_ = std::thread([raw = server.get()] { raw->Read(); });
  for (std::thread& thread : server->threads_) {
    thread = std::thread([raw = server.get()] { raw->Answer(); });
  }
  return server;
}

OperatorServer::~OperatorServer() {
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

void OperatorServer::Read() {
  std::deque<Peer> peers;  // the oldest first
  uint64_t no_room_until_ns = 0;
  for (;;) {
    const uint64_t now_ns = MonotonicNowNs();
    const bool accepts = now_ns >= no_room_until_ns;
    std::vector<pollfd> ready = {{stop_.get(), POLLIN, 0},
                                 {accepts ? listener_.fd() : -1, POLLIN, 0}};
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
    if (ready[1].revents != 0 && !Accept(peers)) no_room_until_ns = MonotonicAfterNs(kNoRoomNs);
  }
}

bool OperatorServer::Accept(std::deque<Peer>& peers) {
  absl::StatusOr<ControlSocket> socket = listener_.Accept(0);
  // DeadlineExceeded: the peer is gone again.
  if (!socket.ok()) return absl::IsDeadlineExceeded(socket.status());
  const absl::StatusOr<PeerCredentials> user = socket->Peer();
  if (!user.ok() || (user->uid != 0 && user->uid != geteuid())) return true;
  if (peers.size() == kPeersMax) peers.pop_front();
  peers.push_back({*std::move(socket), MonotonicAfterNs(request_within_ns_)});
  return true;
}

bool OperatorServer::Hear(Peer& peer) {
  absl::StatusOr<ControlMessage> message = peer.socket.Receive(0);
  if (!message.ok()) {
    return absl::IsDeadlineExceeded(message.status()) && MonotonicNowNs() < peer.until_ns;
  }
  const bool is_shutdown = message->as<wire::Shutdown>() != nullptr;
  if (!is_shutdown && Enqueue(peer, *message)) return false;
  const ControlBuffer answer = is_shutdown
                                   ? Carry(*message)
                                   : Done(absl::ResourceExhaustedError(
                                         "the instance is busy with other requests; try again"));
  (void)peer.socket.Send(answer, {}, /*until_ns=*/0);
  return false;
}

bool OperatorServer::Enqueue(Peer& peer, ControlMessage& message) {
  {
    const MutexLock lock(mutex_);
    if (requests_.size() == kPeersMax) return false;
    requests_.push_back({std::move(peer.socket), std::move(message)});
  }
  asked_.NotifyOne();
  return true;
}

void OperatorServer::Answer() {
  for (;;) {
    std::optional<Request> request;
    {
      const MutexLock lock(mutex_);
      while (requests_.empty() && !stopping_) asked_.Wait(mutex_);
      if (stopping_) return;
      request = std::move(requests_.front());
      requests_.pop_front();
    }
    (void)request->peer.Send(Carry(request->message));
  }
}

ControlBuffer OperatorServer::Carry(const ControlMessage& request) {
  if (request.as<wire::GetStatus>() != nullptr) {
    StatusFields status = supervisor_->Status();
    hooks_.complete(status);
    return MakeStatus(status);
  }
  if (const auto* events = request.as<wire::GetEvents>(); events != nullptr && hooks_.events) {
    return MakeEvents(hooks_.events(events->after()));
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
  if (const auto* shutdown = request.as<wire::Shutdown>()) {
    return Done(hooks_.shut_down(ReadShutdown(*shutdown)));
  }
  return Done(
      absl::InvalidArgumentError(std::string(request.name()) + " is no operator's request"));
}

absl::Status OperatorServer::Reload() {
  if (hooks_.reload) return hooks_.reload();
  return absl::UnimplementedError("this instance has no configuration to read again");
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
  if (absl::Status status = socket->Send(request); !status.ok()) return status;
  return socket->Receive(MonotonicAfterNs(within_ns));
}

}  // namespace bulkhead
