// SPDX-License-Identifier: Apache-2.0
//
// OperatorServer: answers operators' requests (status, content, release) on a Unix socket that only
// root and the user that runs the service can reach. One request a connection, one connection at a
// time.
#ifndef BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_
#define BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "host/supervisor/supervisor.h"
#include "ipc/control_socket.h"

namespace bulkhead {

class OperatorServer {
 public:
  // `supervisor` outlives this. `complete` adds to a status what the supervisor does not know.
  static absl::StatusOr<std::unique_ptr<OperatorServer>> Listen(
      const std::string& path, Supervisor* supervisor, std::function<void(StatusFields&)> complete);
  ~OperatorServer();

 private:
  OperatorServer() = default;
  void Run();
  void Answer(ControlSocket& peer);
  ControlBuffer Carry(const ControlMessage& request);

  Supervisor* supervisor_ = nullptr;
  std::function<void(StatusFields&)> complete_;
  ControlListener listener_;
  UniqueFd stop_;
  std::thread thread_;
};

// The other side: sends one request to the instance behind `path`, returns its answer.
absl::StatusOr<ControlMessage> AskInstance(const std::string& path, const ControlBuffer& request);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_
