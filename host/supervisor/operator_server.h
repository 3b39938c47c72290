// SPDX-License-Identifier: Apache-2.0
//
// OperatorServer: answers operators' requests (status, content, release, shutdown) on a Unix socket
// that only root and the user that runs the service can reach. One request a connection.
//
// Content is answered when it serves or was rolled back, which takes as long as its driver's start.
// Some threads answer, and one of them is never given to content: status is always answered.
#ifndef BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_
#define BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "host/supervisor/supervisor.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/control_socket.h"

namespace bulkhead {

class OperatorServer {
 public:
  static constexpr int kContentsMax = 3;  // that many wait for theirs to serve

  // `supervisor` outlives this. `complete` adds to a status what the supervisor does not know;
  // `shut_down` is told that the service is to end. Both are called from any of the threads.
  static absl::StatusOr<std::unique_ptr<OperatorServer>> Listen(
      const std::string& path, Supervisor* supervisor, std::function<void(StatusFields&)> complete,
      std::function<void()> shut_down);
  // Waits for the answers that are being made: stop the supervisor first.
  ~OperatorServer();

 private:
  OperatorServer() = default;
  void Run();
  void Answer(ControlSocket& peer);
  ControlBuffer Carry(const ControlMessage& request);
  ControlBuffer PutInForce(const wire::SetContent& content);

  Supervisor* supervisor_ = nullptr;
  std::function<void(StatusFields&)> complete_;
  std::function<void()> shut_down_;
  ControlListener listener_;
  UniqueFd stop_;
  std::atomic<int> contents_ = 0;
  std::array<std::thread, kContentsMax + 1> threads_;
};

// The other side: sends one request to the instance behind `path`, returns its answer. NotFound:
// no process listens there. DeadlineExceeded: it does not answer within `within_ns`.
inline constexpr uint64_t kOperatorAnswersWithinNs = 65'000'000'000;  // new content takes its time
absl::StatusOr<ControlMessage> AskInstance(const std::string& path, const ControlBuffer& request,
                                           uint64_t within_ns = kOperatorAnswersWithinNs);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_
