// SPDX-License-Identifier: Apache-2.0
#include "ipc/descriptor_inbox.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

// One file belongs to a note. Room for more, so that excess files are closed and do not leak.
constexpr size_t kDescriptorsRead = 4;

}  // namespace

DescriptorInbox::DescriptorInbox(UniqueFd socket, uint32_t generation, uint32_t slots)
    : socket_(std::move(socket)), generation_(generation), by_slot_(slots) {}

absl::StatusOr<UniqueFd> DescriptorInbox::Receive(uint32_t slot, uint64_t ticket) {
  if (!socket_.valid()) {
    return absl::UnavailableError("the host has no descriptor socket: files cannot be received");
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  Entry& mine = by_slot_[slot];
  for (;;) {
    if (mine.ticket == ticket) {
      mine.ticket = BH_TICKET_NONE;
      return std::move(mine.file);
    }
    switch (ReceiveOne()) {
      case Drained::kOne:
        break;
      case Drained::kNothingThere:
        return absl::NotFoundError(
            absl::StrCat("the shim sent no file ahead of the call in slot ", slot));
      case Drained::kClosed:
        return absl::UnavailableError("the shim has closed the descriptor socket");
    }
  }
}

DescriptorInbox::Drained DescriptorInbox::ReceiveOne() {
  bh_descriptor_note note = {};
  iovec data = {&note, sizeof(note)};
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsRead * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t bytes;
  do {
    bytes = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0) {
    return errno == EAGAIN || errno == EWOULDBLOCK ? Drained::kNothingThere : Drained::kClosed;
  }

  UniqueFd files[kDescriptorsRead];
  size_t count = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t sent = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < sent && count < kDescriptorsRead; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      files[count++].reset(fd);
    }
  }
  if (bytes == 0 && count == 0) return Drained::kClosed;

  const bool whole = bytes == sizeof(note) && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  if (!whole || count != 1 || note.slot >= by_slot_.size() ||
      bh_ticket_generation(note.ticket) != generation_) {
    ++stray_;
    return Drained::kOne;
  }
  // A file that is still here belongs to an earlier call that did not fetch it.
  Entry& entry = by_slot_[note.slot];
  entry.ticket = note.ticket;
  entry.file = std::move(files[0]);
  return Drained::kOne;
}

uint64_t DescriptorInbox::stray() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stray_;
}

}  // namespace bulkhead
