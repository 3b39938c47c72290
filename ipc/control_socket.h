// SPDX-License-Identifier: Apache-2.0
//
// ControlSocket: control messages (ipc/schema/control.fbs) over a Unix seqpacket socket, one a
// datagram, with descriptors beside it.
//
// The peer is not trusted. A message is copied to private memory; its framing, identifier, version
// and every offset are verified before it is used. Each kind of invalid message has an
// InvalidArgument with its own text; descriptors that came with an invalid message are closed.
// Build messages with ipc/control.h.
//
// Errors of both directions:
//   Unavailable        the peer closed its end (or died)
//   DeadlineExceeded   until_ns passed; nothing was sent or received
//   InvalidArgument    the peer's message is not valid: the peer is broken or hostile. The socket
//                      can still be used
//
// Threads: one may send while another receives. Two senders need a lock of their own only when the
// order of their messages matters.
#ifndef BULKHEAD_IPC_CONTROL_SOCKET_H_
#define BULKHEAD_IPC_CONTROL_SOCKET_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ipc/control/envelope.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

inline constexpr size_t kControlDescriptorsMax = 8;

// A verified message and its descriptors.
class ControlMessage {
 public:
  // `bytes` have passed VerifyEnvelope.
  ControlMessage(std::vector<uint8_t> bytes, std::vector<UniqueFd> descriptors);

  const wire::Envelope& envelope() const;
  wire::Message type() const { return envelope().message_type(); }
  // The message as a T, or null when it is of another type: `if (auto* ping =
  // message.as<wire::Ping>())`.
  template <typename T>
  const T* as() const {
    return type() == wire::MessageTraits<T>::enum_value
               ? static_cast<const T*>(envelope().message())
               : nullptr;
  }
  const char* name() const { return wire::EnumNameMessage(type()); }

  // InvalidArgument, with the message's name, unless exactly `count` descriptors came along.
  absl::Status ExpectDescriptors(size_t count) const;
  size_t descriptor_count() const { return descriptors_.size(); }
  // REQUIRES: index < descriptor_count(). Each can be taken once.
  UniqueFd TakeDescriptor(size_t index);

 private:
  std::vector<uint8_t> bytes_;
  std::vector<UniqueFd> descriptors_;
};

// The process at the other end, as recorded by the kernel at connect or socketpair.
struct PeerCredentials {
  pid_t pid = -1;
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
};

class ControlSocket {
 public:
  ControlSocket() = default;  // not connected
  // Takes over a connected seqpacket socket (e.g. one that was inherited).
  explicit ControlSocket(UniqueFd socket) : socket_(std::move(socket)) {}

  static absl::StatusOr<std::pair<ControlSocket, ControlSocket>> Pair();
  // NotFound when no service listens there.
  static absl::StatusOr<ControlSocket> Connect(const std::string& path);

  // Sends one message with up to kControlDescriptorsMax descriptors, which stay the caller's.
  // Waits for room until until_ns.
  absl::Status Send(const ControlBuffer& message, absl::Span<const int> descriptors,
                    uint64_t until_ns);
  // The same, waiting for at most one second.
  absl::Status Send(const ControlBuffer& message, absl::Span<const int> descriptors = {});

  // Waits for one message until until_ns; 0: only polls.
  absl::StatusOr<ControlMessage> Receive(uint64_t until_ns);
  // The same from a peer that has no descriptors to send: the kernel drops any descriptors, and the
  // message is refused.
  absl::StatusOr<ControlMessage> ReceiveWithoutDescriptors(uint64_t until_ns);

  absl::StatusOr<PeerCredentials> Peer() const;
  // Its supplementary groups, recorded then, too. None where the kernel has no SO_PEERGROUPS.
  std::vector<gid_t> PeerGroups() const;

  bool connected() const { return socket_.valid(); }
  // For poll: readable when a message is there or the peer has closed.
  int fd() const { return socket_.get(); }
  UniqueFd Release() { return std::move(socket_); }
  void Close() { socket_.reset(); }

 private:
  absl::StatusOr<ControlMessage> Receive(uint64_t until_ns, bool with_descriptors);

  UniqueFd socket_;
};

// A socket that other processes connect to, at a path that only the user of this process can reach
// unless its mode says otherwise.
class ControlListener {
 public:
  ControlListener() = default;
  ControlListener(ControlListener&& other) noexcept;
  ControlListener& operator=(ControlListener&& other) noexcept;
  ~ControlListener();  // removes the path

  // AlreadyExists when another service listens there. The path of a service that has died is
  // replaced.
  // `mode`: of the path; more than 0600 only in a folder where no other user can rename it.
  static absl::StatusOr<ControlListener> Listen(const std::string& path, mode_t mode = 0600);
  // DeadlineExceeded when no peer connected until until_ns; 0: only polls.
  absl::StatusOr<ControlSocket> Accept(uint64_t until_ns);

  int fd() const { return socket_.get(); }
  const std::string& path() const { return path_; }

 private:
  ControlListener(UniqueFd socket, std::string path);
  UniqueFd socket_;
  std::string path_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CONTROL_SOCKET_H_
