// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/operator_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "ipc/check.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kRequestWithinNs = kNanosecondsPerSecond;
constexpr uint64_t kContentWithinNs = 60 * kNanosecondsPerSecond;

std::string TextOf(const flatbuffers::String* text) { return text == nullptr ? "" : text->str(); }

ControlBuffer Done(const absl::Status& status, uint64_t version = 0) {
  return MakeDone(std::string(status.message()), version);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OperatorServer>> OperatorServer::Listen(
    const std::string& path, Supervisor* supervisor, std::function<void(StatusFields&)> complete,
    std::function<void()> shut_down) {
  absl::StatusOr<ControlListener> listener = ControlListener::Listen(path);
  if (!listener.ok()) return listener.status();
  std::unique_ptr<OperatorServer> server(new OperatorServer);
  server->supervisor_ = supervisor;
  server->complete_ = std::move(complete);
  server->shut_down_ = std::move(shut_down);
  server->listener_ = *std::move(listener);
  server->stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  BULKHEAD_CHECK(server->stop_.valid());
  for (std::thread& thread : server->threads_) {
    thread = std::thread([raw = server.get()] { raw->Run(); });
  }
  return server;
}

OperatorServer::~OperatorServer() {
  const uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof(one));
  for (std::thread& thread : threads_) thread.join();
}

void OperatorServer::Run() {
  for (;;) {
    pollfd ready[] = {{stop_.get(), POLLIN, 0}, {listener_.fd(), POLLIN, 0}};
    poll(ready, 2, -1);
    if (ready[0].revents != 0) return;
    if (ready[1].revents == 0) continue;
    absl::StatusOr<ControlSocket> peer = listener_.Accept(0);  // or another thread was faster
    if (peer.ok()) Answer(*peer);
  }
}

void OperatorServer::Answer(ControlSocket& peer) {
  const absl::StatusOr<PeerCredentials> who = peer.Peer();
  if (!who.ok() || (who->uid != 0 && who->uid != geteuid())) return;
  const absl::StatusOr<ControlMessage> request = peer.Receive(MonotonicAfterNs(kRequestWithinNs));
  if (request.ok()) (void)peer.Send(Carry(*request));
}

ControlBuffer OperatorServer::Carry(const ControlMessage& request) {
  if (request.as<wire::GetStatus>() != nullptr) {
    StatusFields status = supervisor_->Status();
    complete_(status);
    return MakeStatus(status);
  }
  if (const auto* content = request.as<wire::SetContent>()) {
    const bool room = contents_.fetch_add(1) < kContentsMax;
    ControlBuffer answer = room ? PutInForce(*content)
                                : Done(absl::ResourceExhaustedError(
                                      "too much content is being put in force; try again later"));
    contents_.fetch_sub(1);
    return answer;
  }
  if (const auto* release = request.as<wire::Release>()) {
    return Done(supervisor_->LiftQuarantine(TextOf(release->driver())));
  }
  if (request.as<wire::Shutdown>() != nullptr) {
    shut_down_();
    return Done(absl::OkStatus());
  }
  return Done(
      absl::InvalidArgumentError(std::string(request.name()) + " is no operator's request"));
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
