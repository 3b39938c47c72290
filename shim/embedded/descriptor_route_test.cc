// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/descriptor_route.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/abi/channel.h"

namespace bulkhead {
namespace {

std::pair<UniqueFd, UniqueFd> SocketPair() {
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Takes one note and its descriptor from a socket; ticket 0 when there is none.
uint64_t ReceiveNote(int socket) {
  bh_descriptor_note note = {};
  iovec bytes = {.iov_base = &note, .iov_len = sizeof(note)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t received = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received != sizeof(note)) return 0;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr) return 0;
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof(descriptor));
  close(descriptor);
  return note.ticket;
}

class DescriptorRouteTest : public testing::Test {
 protected:
  DescriptorRouteTest() : file_(open("/dev/null", O_RDONLY | O_CLOEXEC)) {}
  UniqueFd file_;
};

TEST_F(DescriptorRouteTest, LeadsNowhereUntilConnectedAndAfterwards) {
  absl::StatusOr<DescriptorRoute> route = DescriptorRoute::Create();
  ASSERT_TRUE(route.ok()) << route.status();
  EXPECT_EQ(route->Send(1, 7, file_.get()), -1);
  auto [shim, host] = SocketPair();
  ASSERT_TRUE(route->Connect(std::move(shim)).ok());
  EXPECT_EQ(route->Send(1, 7, file_.get()), 0);
  EXPECT_EQ(ReceiveNote(host.get()), 7u);
  route->Disconnect();
  EXPECT_EQ(route->Send(1, 8, file_.get()), -1);
  char byte;
  EXPECT_EQ(read(host.get(), &byte, 1), 0) << "the host must see the end of its socket";
}

TEST_F(DescriptorRouteTest, DistinguishesAFullSocketFromAFileThatCanNotBeSent) {
  absl::StatusOr<DescriptorRoute> route = DescriptorRoute::Create();
  ASSERT_TRUE(route.ok()) << route.status();
  auto [shim, host] = SocketPair();
  ASSERT_TRUE(route->Connect(std::move(shim)).ok());
  EXPECT_EQ(route->Send(1, 7, 1 << 20), -2);
  int sent = 0;
  while (route->Send(1, 7, file_.get()) == 0) ASSERT_LT(++sent, 1 << 20);
  EXPECT_GT(sent, 0);
  EXPECT_EQ(route->Send(1, 7, file_.get()), -1);
  EXPECT_EQ(ReceiveNote(host.get()), 7u);
  EXPECT_EQ(route->Send(1, 8, file_.get()), 0) << "room again";
}

// While its socket is replaced the number must never be free: a thread that keeps opening files
// would get it, and a sender would write into that file.
TEST_F(DescriptorRouteTest, SendersNeverUseTheDescriptorOfAnotherFile) {
  absl::StatusOr<DescriptorRoute> route = DescriptorRoute::Create();
  ASSERT_TRUE(route.ok()) << route.status();
  auto [bystander, bystander_peer] = SocketPair();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> sent{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop.load()) {
        if (route->Send(1, 7, file_.get()) == 0) sent.fetch_add(1);
      }
    });
  }
  // Puts a socket behind every number that becomes free; a stray note would arrive there.
  threads.emplace_back([&, socket = bystander.get()] {
    while (!stop.load()) {
      UniqueFd number(fcntl(socket, F_DUPFD_CLOEXEC, 0));
    }
  });
  uint64_t received = 0;
  for (int generation = 0; generation < 2000 || sent.load() == 0; ++generation) {
    auto [shim, host] = SocketPair();
    ASSERT_TRUE(route->Connect(std::move(shim)).ok());
    while (ReceiveNote(host.get()) != 0) ++received;
    route->Disconnect();
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ReceiveNote(bystander_peer.get()), 0u);
}

}  // namespace
}  // namespace bulkhead
