// SPDX-License-Identifier: Apache-2.0
//
// OperatorServer: answers operators' requests (status, content, release, reload, shutdown) on a
// Unix socket that only root and the user that runs the service can reach. One request a
// connection.
//
// One thread reads: a peer that connects and sends nothing delays no other. It is dropped after
// `request_within_ns`, or sooner when kPeersMax others wait. Content is answered when it serves or
// was rolled back, which takes as long as its driver's start. Some threads answer, and some of them
// are never given to content: status is always answered. The reader itself carries a shutdown,
// however many requests wait; one that finds no room is answered with an error.
#ifndef BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_
#define BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "host/supervisor/supervisor.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "ipc/mutex.h"

namespace bulkhead {

class OperatorServer {
 public:
  static constexpr int kWaitingMax = 3;  // requests that wait for a driver to serve
  static constexpr size_t kPeersMax = 32;

  // What the supervisor does not know. Called from any of the threads.
  struct Hooks {
    std::function<void(StatusFields&)> complete;         // adds to a status
    std::function<absl::Status(HostsAtStop)> shut_down;  // the service is to end
    // Reads the configuration again; may be empty: there is none. Takes as long as new content.
    std::function<absl::Status()> reload = {};
    std::function<EventsFields(uint64_t after)> events = {};  // may be empty: none are kept
  };

  // `supervisor` outlives this.
  static absl::StatusOr<std::unique_ptr<OperatorServer>> Listen(
      const std::string& path, Supervisor* supervisor, Hooks hooks,
      uint64_t request_within_ns = kNanosecondsPerSecond);
  // Waits for the answers that are being made: stop the supervisor first.
  ~OperatorServer();

 private:
  struct Peer {
    ControlSocket socket;
    uint64_t until_ns = 0;  // its request has to come by then
  };
  struct Request {
    ControlSocket peer;
    ControlMessage message;
  };

  OperatorServer() = default;
  void Read();
  // False: there was no descriptor or memory for one.
  bool Accept(std::deque<Peer>& peers);
  // False: the peer is gone or late, or its request is in requests_.
  bool Hear(Peer& peer);
  // False: there is no room.
  bool Enqueue(Peer& peer, ControlMessage& message);
  void Answer();
  ControlBuffer Carry(const ControlMessage& request);
  absl::Status Reload();
  ControlBuffer PutInForce(const wire::SetContent& content);

  Supervisor* supervisor_ = nullptr;
  Hooks hooks_;
  uint64_t request_within_ns_ = 0;
  ControlListener listener_;
  UniqueFd stop_;
  std::atomic<int> waiting_ = 0;

  Mutex mutex_;
  CondVar asked_;
  std::deque<Request> requests_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread reader_;
  std::array<std::thread, kWaitingMax + 2> threads_;
};

// The other side: sends one request to the instance behind `path`, returns its answer. NotFound:
// no process listens there. DeadlineExceeded: it does not answer within `within_ns`.
inline constexpr uint64_t kOperatorAnswersWithinNs = 65'000'000'000;  // new content takes its time
absl::StatusOr<ControlMessage> AskInstance(const std::string& path, const ControlBuffer& request,
                                           uint64_t within_ns = kOperatorAnswersWithinNs);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_
