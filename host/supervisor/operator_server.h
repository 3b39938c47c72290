// SPDX-License-Identifier: Apache-2.0
//
// OperatorServer: answers operators' requests (operator_rights.h) on two Unix sockets: one that
// only root and the user that runs the service can reach, and, once Admit() names groups, one that
// every user can, on which a process's user and groups decide. One request a connection; the right
// to it is looked up when it comes.
//
// One thread reads: a peer that connects and sends nothing delays no other. It is dropped after
// `request_within_ns`, or sooner when others of its kind wait. Content is answered when it serves
// or was rolled back, which takes as long as its driver's start. Some threads answer, and some of
// them are never given to content: status is always answered. The reader itself carries a shutdown,
// however many requests wait; one that finds no room is answered with an error.
//
// What one operator asks must not keep another from being answered: root has a socket of its own;
// its requests come before those of admins, and those before readers'; a user other than root has
// few connections and few requests that wait; readers together have some of the room, and two of
// the threads that answer.
#ifndef BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_
#define BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "host/supervisor/operator_rights.h"
#include "host/supervisor/supervisor.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "ipc/mutex.h"

namespace bulkhead {

class OperatorServer {
 public:
  static constexpr int kWaitingMax = 3;         // requests that wait for a driver to serve
  static constexpr size_t kPeersMax = 32;       // root's and the service's own user's
  static constexpr size_t kGroupPeersMax = 16;  // of admins; of readers
  static constexpr size_t kUserPeersMax = 4;    // of one user in a group
  static constexpr int kReadersAtWorkMax = 2;

  // What the supervisor does not know. Called from any of the threads.
  struct Hooks {
    std::function<void(StatusFields&)> complete;         // adds to a status
    std::function<absl::Status(HostsAtStop)> shut_down;  // the service is to end
    // Reads the configuration again; may be empty: there is none. Takes as long as new content.
    std::function<absl::Status()> reload = {};
    // The link for a browser, of an admin; may be empty: there is no page.
    std::function<absl::StatusOr<std::string>(const OperatorPeer&)> sign_in = {};
    // May be empty: none are kept. Without `words`: without texts of a driver's.
    std::function<EventsFields(uint64_t after, bool words)> events = {};
  };

  // `supervisor` outlives this.
  static absl::StatusOr<std::unique_ptr<OperatorServer>> Listen(
      const std::string& path, Supervisor* supervisor, Hooks hooks,
      uint64_t request_within_ns = kNanosecondsPerSecond);
  // Waits for the answers that are being made: stop the supervisor first.
  ~OperatorServer();

  // From here on members of these groups are answered, at this path; without groups there is no
  // such socket. Also for requests of connections that are there already. Any thread.
  absl::Status Admit(const std::string& path, const OperatorGroups& groups);
  // Whether this one, which has asked before, may change something now. Any thread.
  bool MayChange(const OperatorPeer& who) const;

 private:
  struct Peer {
    ControlSocket socket;
    OperatorPeer who;
    OperatorRole role = OperatorRole::kNone;  // when it connected
    uint64_t until_ns = 0;                    // its request has to come by then
  };
  struct Request {
    ControlSocket peer;
    OperatorPeer who;
    OperatorRole role = OperatorRole::kNone;
    ControlMessage message;
  };

  OperatorServer() = default;
  void Read();
  // False: there was no descriptor or memory for one.
  bool Accept(ControlListener& listener, std::deque<Peer>& peers);
  // Takes over the listener that Admit() has for the reader.
  void TakeAdmitted(ControlListener& operators);
  OperatorGroups Groups() const;
  static void MakeRoom(std::deque<Peer>& peers, const Peer& next);
  // False: the peer is gone or late, or its request is in requests_.
  bool Hear(Peer& peer);
  // False: there is no room.
  bool Enqueue(Peer& peer, OperatorRole role, ControlMessage& message);
  // The next to be answered; the end when none may be.
  std::deque<Request>::iterator Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Answer();
  ControlBuffer Carry(const ControlMessage& request, const OperatorPeer& who, OperatorRole role);
  absl::Status Reload();
  ControlBuffer SignIn(const OperatorPeer& who);
  ControlBuffer PutInForce(const wire::SetContent& content);

  Supervisor* supervisor_ = nullptr;
  Hooks hooks_;
  uint64_t request_within_ns_ = 0;
  ControlListener listener_;
  UniqueFd stop_, admitted_;
  std::atomic<int> waiting_ = 0;

  Mutex mutex_;
  CondVar asked_;
  std::deque<Request> requests_ ABSL_GUARDED_BY(mutex_);
  int readers_at_work_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  mutable Mutex groups_mutex_;
  CondVar taken_;
  bool closing_ ABSL_GUARDED_BY(groups_mutex_) = false;
  OperatorGroups groups_ ABSL_GUARDED_BY(groups_mutex_);
  std::string admits_at_ ABSL_GUARDED_BY(groups_mutex_);                       // empty: nowhere
  std::optional<ControlListener> next_admits_ ABSL_GUARDED_BY(groups_mutex_);  // for the reader

  std::thread reader_;
  std::array<std::thread, kWaitingMax + kReadersAtWorkMax + 1> threads_;
};

// The other side: sends one request to the instance behind `path`, returns its answer. NotFound:
// no process listens there. DeadlineExceeded: it does not answer within `within_ns`.
inline constexpr uint64_t kOperatorAnswersWithinNs = 65'000'000'000;  // new content takes its time
absl::StatusOr<ControlMessage> AskInstance(const std::string& path, const ControlBuffer& request,
                                           uint64_t within_ns = kOperatorAnswersWithinNs);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SUPERVISOR_OPERATOR_SERVER_H_
