// SPDX-License-Identifier: Apache-2.0
#include "host/store/store_message.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ipc/check.h"
#include "ipc/poll_until.h"

namespace bulkhead {
namespace {

struct Header {
  uint32_t version;
  StoreMessage::Kind kind;
  uint64_t number;
  uint32_t name_bytes;
  uint32_t bytes;
};

constexpr size_t kControlBytes = CMSG_SPACE(StoreMessage::kDescriptorsMax * sizeof(int));

absl::Status Gone() {
  return absl::UnavailableError("the other end of the store's socket is gone");
}

}  // namespace

absl::Status SendStoreMessage(int socket, const StoreMessage& message,
                              absl::Span<const int> descriptors, uint64_t until_ns) {
  BULKHEAD_CHECK(message.name.size() <= StoreMessage::kNameBytesMax);
  if (message.bytes.size() > StoreMessage::kBytesMax ||
      descriptors.size() > StoreMessage::kDescriptorsMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("an item of the store is too large: ", message.name, " with ",
                     message.bytes.size(), " bytes"));
  }
  Header header = {.version = StoreMessage::kVersion,
                   .kind = message.kind,
                   .number = message.number,
                   .name_bytes = static_cast<uint32_t>(message.name.size()),
                   .bytes = static_cast<uint32_t>(message.bytes.size())};
  std::array<iovec, 3> parts = {{{&header, sizeof(header)},
                                 {const_cast<char*>(message.name.data()), message.name.size()},
                                 {const_cast<char*>(message.bytes.data()), message.bytes.size()}}};
  alignas(cmsghdr) std::array<char, kControlBytes> control = {};
  msghdr out = {};
  out.msg_iov = parts.data();
  out.msg_iovlen = parts.size();
  if (!descriptors.empty()) {
    out.msg_control = control.data();
    out.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&out);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
  }
  for (;;) {
    if (sendmsg(socket, &out, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return Gone();
    if (errno != EAGAIN) return absl::ErrnoToStatus(errno, "to the store");
    if (!PollUntil(socket, POLLOUT, until_ns)) {
      return absl::DeadlineExceededError("the other end of the store's socket does not read");
    }
  }
}

absl::StatusOr<StoreMessage> ReceiveStoreMessage(int socket, uint64_t until_ns) {
  if (!PollUntil(socket, POLLIN, until_ns)) {
    return absl::DeadlineExceededError("nothing comes through the store's socket");
  }
  std::vector<char> bytes(sizeof(Header) + StoreMessage::kNameBytesMax + StoreMessage::kBytesMax);
  alignas(cmsghdr) std::array<char, kControlBytes> control = {};
  iovec part = {bytes.data(), bytes.size()};
  msghdr in = {};
  in.msg_iov = &part;
  in.msg_iovlen = 1;
  in.msg_control = control.data();
  in.msg_controllen = control.size();
  ssize_t size;
  do {
    size = recvmsg(socket, &in, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  StoreMessage message;
  for (cmsghdr* rights = CMSG_FIRSTHDR(&in); size > 0 && rights != nullptr;
       rights = CMSG_NXTHDR(&in, rights)) {
    if (rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; i < (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int descriptor;
      std::memcpy(&descriptor, CMSG_DATA(rights) + i * sizeof(int), sizeof(int));
      message.descriptors.emplace_back(descriptor);
    }
  }
  if (size <= 0) return Gone();
  Header header;
  if (static_cast<size_t>(size) < sizeof(header)) {
    return absl::FailedPreconditionError("what came from the store is no message of its");
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  const size_t all = sizeof(header) + size_t{header.name_bytes} + header.bytes;
  if (header.version != StoreMessage::kVersion || all != static_cast<size_t>(size) ||
      header.name_bytes > StoreMessage::kNameBytesMax) {
    return absl::FailedPreconditionError(
        "bulkhead-fdstore is of another version than this program: install both of one release");
  }
  if ((in.msg_flags & MSG_CTRUNC) != 0) {
    return absl::ResourceExhaustedError("descriptors of the store were lost: raise ulimit -n");
  }
  message.kind = header.kind;
  message.number = header.number;
  message.name.assign(bytes.data() + sizeof(header), header.name_bytes);
  message.bytes.assign(bytes.data() + sizeof(header) + header.name_bytes, header.bytes);
  return message;
}

}  // namespace bulkhead
