// SPDX-License-Identifier: Apache-2.0
#include "ipc/control_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "ipc/check.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

constexpr int kBacklog = 8;
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

absl::Status PeerClosed() {
  return absl::UnavailableError("the peer has closed the control socket");
}

// An empty datagram and a closed peer both read as 0 bytes; this distinguishes them.
bool PeerHungUp(int fd) {
  pollfd entry = {fd, POLLRDHUP, 0};
  return poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP)) != 0;
}

absl::StatusOr<UniqueFd> NewSocket(int flags = 0) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!socket.valid()) return absl::ErrnoToStatus(errno, "cannot create a socket");
  return socket;
}

absl::StatusOr<sockaddr_un> Address(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path \"", path, "\" has ", path.size(),
                                                   " bytes: must have 1 to ",
                                                   sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool ConnectTo(int socket, const sockaddr_un& address) {
  int result;
  do {
    result = connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

// Takes every descriptor that came, valid message or not, so that none leaks.
std::vector<UniqueFd> CollectDescriptors(msghdr& message) {
  std::vector<UniqueFd> descriptors;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      descriptors.emplace_back(fd);
    }
  }
  return descriptors;
}

}  // namespace

ControlMessage::ControlMessage(std::vector<uint8_t> bytes, std::vector<UniqueFd> descriptors)
    : bytes_(std::move(bytes)), descriptors_(std::move(descriptors)) {}

const wire::Envelope& ControlMessage::envelope() const { return *wire::GetEnvelope(bytes_.data()); }

absl::Status ControlMessage::ExpectDescriptors(size_t count) const {
  if (descriptors_.size() == count) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name(), " came with ", descriptors_.size(),
                                                 " descriptors where ", count, " belong"));
}

UniqueFd ControlMessage::TakeDescriptor(size_t index) {
  BULKHEAD_CHECK(index < descriptors_.size());
  return std::move(descriptors_[index]);
}

absl::StatusOr<std::pair<ControlSocket, ControlSocket>> ControlSocket::Pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "cannot create a pair of sockets");
  }
  return std::make_pair(ControlSocket(UniqueFd(ends[0])), ControlSocket(UniqueFd(ends[1])));
}

absl::StatusOr<ControlSocket> ControlSocket::Connect(const std::string& path) {
  auto address = Address(path);
  if (!address.ok()) return address.status();
  auto socket = NewSocket();
  if (!socket.ok()) return socket.status();
  // The kernel's bound of a connect to a listener whose queue is full.
  const timeval within = {.tv_sec = 1, .tv_usec = 0};
  (void)setsockopt(socket->get(), SOL_SOCKET, SO_SNDTIMEO, &within, sizeof(within));
  if (!ConnectTo(socket->get(), *address)) {
    if (errno == EAGAIN) {
      return absl::DeadlineExceededError(
          absl::StrCat("the service on ", path, " accepts no connections: its queue is full"));
    }
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return absl::NotFoundError(absl::StrCat("no service listens on ", path, ": is it running?"));
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot connect to ", path));
  }
  return ControlSocket(*std::move(socket));
}

absl::Status ControlSocket::Send(const ControlBuffer& message, absl::Span<const int> descriptors) {
  return Send(message, descriptors, MonotonicAfterNs(kNanosecondsPerSecond));
}

absl::Status ControlSocket::Send(const ControlBuffer& message, absl::Span<const int> descriptors,
                                 uint64_t until_ns) {
  if (!connected()) return absl::FailedPreconditionError("the control socket is not connected");
  BULKHEAD_CHECK(message.size() > 0 && message.size() <= kControlBytesMax);
  BULKHEAD_CHECK(descriptors.size() <= kControlDescriptorsMax);

  iovec data = {const_cast<uint8_t*>(message.data()), message.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kControlDescriptorsMax * sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    const size_t bytes = descriptors.size() * sizeof(int);
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(part), descriptors.data(), bytes);
  }
  for (;;) {
    if (sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
      return absl::OkStatus();
    }
    switch (errno) {
      case EINTR:
        break;
      case EAGAIN:
        if (!PollUntil(socket_.get(), POLLOUT, until_ns)) {
          return absl::DeadlineExceededError(
              "the peer does not read its control socket: no room for the message in time");
        }
        break;
      case EPIPE:
      case ECONNRESET:
      case ENOTCONN:
        return PeerClosed();
      default:
        return absl::ErrnoToStatus(errno, "cannot send a control message");
    }
  }
}

absl::StatusOr<ControlMessage> ControlSocket::Receive(uint64_t until_ns) {
  return Receive(until_ns, /*with_descriptors=*/true);
}

absl::StatusOr<ControlMessage> ControlSocket::ReceiveWithoutDescriptors(uint64_t until_ns) {
  return Receive(until_ns, /*with_descriptors=*/false);
}

absl::StatusOr<ControlMessage> ControlSocket::Receive(uint64_t until_ns, bool with_descriptors) {
  if (!connected()) return absl::FailedPreconditionError("the control socket is not connected");
  std::vector<uint8_t> bytes(kControlBytesMax);
  // Room for one descriptor more than allowed: an excess is then distinguished from a full
  // descriptor table.
  alignas(cmsghdr) char control[CMSG_SPACE((kControlDescriptorsMax + 1) * sizeof(int))];
  msghdr header;
  ssize_t received;
  for (;;) {
    iovec data = {bytes.data(), bytes.size()};
    header = {};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    if (with_descriptors) {
      header.msg_control = control;
      header.msg_controllen = sizeof(control);
    }
    received = recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (received >= 0) break;
    if (errno == EINTR) continue;
    if (errno == ECONNRESET || errno == ENOTCONN) return PeerClosed();
    if (errno != EAGAIN) return absl::ErrnoToStatus(errno, "cannot receive a control message");
    if (!PollUntil(socket_.get(), POLLIN, until_ns)) {
      return absl::DeadlineExceededError("no control message came in time");
    }
  }

  std::vector<UniqueFd> descriptors = CollectDescriptors(header);
  if (received == 0) {
    if (descriptors.empty() && PeerHungUp(socket_.get())) return PeerClosed();
    return absl::InvalidArgumentError("control message is empty");
  }
  if ((header.msg_flags & MSG_TRUNC) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("control message is larger than ", kControlBytesMax, " bytes"));
  }
  if (descriptors.size() > kControlDescriptorsMax) {
    return absl::InvalidArgumentError(absl::StrCat("control message came with more than ",
                                                   kControlDescriptorsMax, " descriptors"));
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0 && !with_descriptors) {
    return absl::InvalidArgumentError("control message came with descriptors where none belong");
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    return absl::InvalidArgumentError(
        "descriptors of a control message were lost: too many were sent, or the limit of open "
        "files "
        "is reached (raise RLIMIT_NOFILE)");
  }
  bytes.resize(static_cast<size_t>(received));
  if (auto status = VerifyEnvelope(bytes); !status.ok()) return status;
  bytes.shrink_to_fit();
  return ControlMessage(std::move(bytes), std::move(descriptors));
}

absl::StatusOr<PeerCredentials> ControlSocket::Peer() const {
  ucred credentials;
  socklen_t bytes = sizeof(credentials);
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) {
    return absl::ErrnoToStatus(errno, "cannot read the peer's credentials");
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

std::vector<gid_t> ControlSocket::PeerGroups() const {
  constexpr size_t kGroupsMax = 65536;  // the kernel's NGROUPS_MAX
  std::vector<gid_t> groups(64);
  for (;;) {
    auto bytes = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (getsockopt(socket_.get(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes) == 0) {
      groups.resize(bytes / sizeof(gid_t));
      return groups;
    }
    const size_t needed = bytes / sizeof(gid_t);
    if (errno != ERANGE || needed <= groups.size() || needed > kGroupsMax) return {};
    groups.resize(needed);
  }
}

ControlListener::ControlListener(UniqueFd socket, std::string path)
    : socket_(std::move(socket)), path_(std::move(path)) {}

ControlListener::ControlListener(ControlListener&& other) noexcept
    : socket_(std::move(other.socket_)), path_(std::move(other.path_)) {
  other.path_.clear();
}

ControlListener& ControlListener::operator=(ControlListener&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(path_, other.path_);
  return *this;
}

ControlListener::~ControlListener() {
  if (socket_.valid()) unlink(path_.c_str());
}

absl::StatusOr<ControlListener> ControlListener::Listen(const std::string& path, mode_t mode) {
  auto address = Address(path);
  if (!address.ok()) return address.status();
  {
    auto probe = NewSocket();
    if (!probe.ok()) return probe.status();
    if (ConnectTo(probe->get(), *address)) {
      return absl::AlreadyExistsError(absl::StrCat("another service listens on ", path));
    }
    struct stat status;
    if (errno == ECONNREFUSED && lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
      unlink(path.c_str());
    }
  }
  // Non-blocking: another thread may have accepted the connection after the same poll.
  auto socket = NewSocket(SOCK_NONBLOCK);
  if (!socket.ok()) return socket.status();
  // The socket gets its mode at bind, from the file mode set here: no other user can connect before
  // a chmod.
  if (fchmod(socket->get(), S_IRUSR | S_IWUSR) != 0 ||
      bind(socket->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    if (errno == EADDRINUSE) {
      return absl::AlreadyExistsError(absl::StrCat(path, " exists already"));
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", path));
  }
  ControlListener listener(*std::move(socket), path);
  // Not before: this process's umask holds for bind.
  if ((mode & ~mode_t{S_IRUSR | S_IWUSR}) != 0 && chmod(path.c_str(), mode) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path, " to others"));
  }
  if (listen(listener.fd(), kBacklog) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", path));
  }
  return listener;
}

absl::StatusOr<ControlSocket> ControlListener::Accept(uint64_t until_ns) {
  for (;;) {
    if (!PollUntil(socket_.get(), POLLIN, until_ns)) {
      return absl::DeadlineExceededError("no peer connected in time");
    }
    UniqueFd connection(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection.valid()) return ControlSocket(std::move(connection));
    if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN) {
      return absl::ErrnoToStatus(errno, "cannot accept a connection");
    }
  }
}

}  // namespace bulkhead
