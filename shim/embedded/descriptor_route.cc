// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/descriptor_route.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "ipc/abi/channel.h"

namespace bulkhead {

absl::StatusOr<DescriptorRoute> DescriptorRoute::Create() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "cannot create a descriptor socket");
  }
  UniqueFd nowhere(ends[0]);
  close(ends[1]);
  UniqueFd route(fcntl(nowhere.get(), F_DUPFD_CLOEXEC, 0));
  if (route.get() < 0) return absl::ErrnoToStatus(errno, "cannot duplicate a descriptor socket");
  return DescriptorRoute(std::move(route), std::move(nowhere));
}

DescriptorRoute::DescriptorRoute(UniqueFd route, UniqueFd nowhere)
    : route_(std::move(route)), nowhere_(std::move(nowhere)) {}

absl::Status DescriptorRoute::Connect(UniqueFd socket) {
  if (dup3(socket.get(), route_.get(), O_CLOEXEC) < 0) {
    return absl::ErrnoToStatus(errno, "the generation's descriptor socket is not usable");
  }
  return absl::OkStatus();
}

void DescriptorRoute::Disconnect() { dup3(nowhere_.get(), route_.get(), O_CLOEXEC); }

int DescriptorRoute::Send(uint32_t slot, uint64_t ticket, int descriptor) const {
  bh_descriptor_note note = {};
  note.ticket = ticket;
  note.slot = slot;
  iovec bytes = {.iov_base = &note, .iov_len = sizeof(note)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));

  for (;;) {
    if (sendmsg(route_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return 0;
    switch (errno) {
      case EINTR:
        continue;
      case EBADF:   // the caller's file: the route itself is always open
      case EINVAL:  // a file of this kind can't be sent
      case EPERM:
        return -2;
      default:
        // The socket is full, or the host has died and its generation is about to end: both are
        // temporary.
        return -1;
    }
  }
}

}  // namespace bulkhead
