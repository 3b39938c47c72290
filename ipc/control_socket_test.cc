// SPDX-License-Identifier: Apache-2.0
#include "ipc/control_socket.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control/operator_protocol.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

uint64_t Soon() { return MonotonicAfterNs(10 * kNanosecondsPerSecond); }

UniqueFd Null() { return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

int CountOpenDescriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

// Sends bytes and descriptors without any check.
void SendRaw(int fd, const void* data, size_t bytes, const std::vector<int>& descriptors = {}) {
  iovec vector = {const_cast<void*>(data), bytes};
  msghdr header = {};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(descriptors.size() * sizeof(int)));
  if (!descriptors.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size() * sizeof(int));
  }
  ASSERT_EQ(sendmsg(fd, &header, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
}

class ControlSocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = ControlSocket::Pair();
    ASSERT_TRUE(pair.ok()) << pair.status();
    ours_ = std::move(pair->first);
    theirs_ = std::move(pair->second);
  }
  std::string Refusal() {
    auto message = ours_.Receive(Soon());
    EXPECT_EQ(message.status().code(), absl::StatusCode::kInvalidArgument) << message.status();
    return std::string(message.status().message());
  }
  ControlSocket ours_, theirs_;
};

TEST_F(ControlSocketTest, CarriesAMessageWithItsDescriptors) {
  const UniqueFd null = Null();
  const int descriptors[] = {null.get(), null.get()};
  ASSERT_TRUE(theirs_.Send(MakePing(7), descriptors).ok());
  auto message = ours_.Receive(Soon());
  ASSERT_TRUE(message.ok()) << message.status();
  ASSERT_NE(message->as<wire::Ping>(), nullptr);
  EXPECT_EQ(message->as<wire::Ping>()->number(), 7u);
  EXPECT_EQ(message->as<wire::Pong>(), nullptr);
  EXPECT_STREQ(message->name(), "Ping");
  ASSERT_TRUE(message->ExpectDescriptors(2).ok());
  const UniqueFd received = message->TakeDescriptor(1);
  EXPECT_EQ(fcntl(received.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  struct stat a, b;
  ASSERT_EQ(fstat(null.get(), &a), 0);
  ASSERT_EQ(fstat(received.get(), &b), 0);
  EXPECT_EQ(a.st_ino, b.st_ino);
}

TEST_F(ControlSocketTest, KeepsBoundariesAndOrder) {
  for (uint64_t i = 0; i < 5; ++i) ASSERT_TRUE(theirs_.Send(MakePing(i)).ok());
  for (uint64_t i = 0; i < 5; ++i) {
    auto message = ours_.Receive(Soon());
    ASSERT_TRUE(message.ok()) << message.status();
    EXPECT_EQ(message->as<wire::Ping>()->number(), i);
  }
}

TEST_F(ControlSocketTest, WrongNumberOfDescriptorsIsNamed) {
  const UniqueFd null = Null();
  const int descriptors[] = {null.get()};
  ASSERT_TRUE(theirs_.Send(MakeDrain(1), descriptors).ok());
  auto message = ours_.Receive(Soon());
  ASSERT_TRUE(message.ok());
  const absl::Status status = message->ExpectDescriptors(4);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "Drain came with 1 descriptors where 4 belong");
  EXPECT_FALSE(message->ExpectDescriptors(0).ok());
}

// The error comes from the kernel's MSG_CTRUNC: the descriptors were never in this process.
TEST_F(ControlSocketTest, UnexpectedDescriptorsAreNotReceived) {
  const UniqueFd null = Null();
  const int descriptors[] = {null.get()};
  ASSERT_TRUE(theirs_.Send(MakePing(1), descriptors).ok());
  const absl::Status status = ours_.ReceiveWithoutDescriptors(Soon()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("where none belong"));
  ASSERT_TRUE(theirs_.Send(MakePing(2)).ok());
  EXPECT_TRUE(ours_.ReceiveWithoutDescriptors(Soon()).ok());
}

TEST_F(ControlSocketTest, TimesOut) {
  EXPECT_EQ(ours_.Receive(0).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ours_.Receive(MonotonicAfterNs(kNanosecondsPerMillisecond)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ControlSocketTest, ClosedPeerIsUnavailableAfterItsLastMessage) {
  ASSERT_TRUE(theirs_.Send(MakePing(1)).ok());
  theirs_.Close();
  EXPECT_TRUE(ours_.Receive(Soon()).ok());
  EXPECT_EQ(ours_.Receive(Soon()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ours_.Send(MakePing(2)).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ControlSocketTest, APeerThatDiesWakesAWaiter) {
  std::thread closer([this] { theirs_.Close(); });
  EXPECT_EQ(ours_.Receive(Soon()).status().code(), absl::StatusCode::kUnavailable);
  closer.join();
}

TEST_F(ControlSocketTest, APeerThatDoesNotReadCannotHoldTheSender) {
  const ControlBuffer message = MakeLogLine(wire::LogLevel::Info, std::string(4'000, 'x'));
  absl::Status status;
  const uint64_t until_ns = MonotonicAfterNs(20 * kNanosecondsPerMillisecond);
  for (int i = 0; i < 100'000 && status.ok(); ++i) status = ours_.Send(message, {}, until_ns);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ControlSocketTest, GarbageIsRefused) {
  const std::string garbage(100, '\x7f');
  SendRaw(theirs_.fd(), garbage.data(), garbage.size());
  EXPECT_THAT(Refusal(), HasSubstr("identifier"));
  // The socket can still be used.
  ASSERT_TRUE(theirs_.Send(MakePing(1)).ok());
  EXPECT_TRUE(ours_.Receive(Soon()).ok());
}

TEST_F(ControlSocketTest, TruncatedIsRefused) {
  const ControlBuffer good = MakeStartFailed(3, "a sentence for the operator");
  SendRaw(theirs_.fd(), good.data(), good.size() - 8);
  EXPECT_THAT(Refusal(), HasSubstr("truncated or corrupt"));
}

TEST_F(ControlSocketTest, BitFlippedStructureIsRefused) {
  const ControlBuffer good = MakeStartFailed(3, "a sentence for the operator");
  std::string flipped(reinterpret_cast<const char*>(good.data()), good.size());
  flipped[3] = static_cast<char>(flipped[3] ^ 0x40);  // the root's offset
  SendRaw(theirs_.fd(), flipped.data(), flipped.size());
  EXPECT_THAT(Refusal(), HasSubstr("truncated or corrupt"));
}

TEST_F(ControlSocketTest, EmptyIsRefusedAndDistinguishedFromTheEnd) {
  SendRaw(theirs_.fd(), "", 0);
  EXPECT_THAT(Refusal(), HasSubstr("empty"));
}

TEST_F(ControlSocketTest, OversizeIsRefused) {
  const std::string large(kControlBytesMax + 1, 'x');
  SendRaw(theirs_.fd(), large.data(), large.size());
  EXPECT_THAT(Refusal(), HasSubstr("larger than " + std::to_string(kControlBytesMax)));
}

TEST_F(ControlSocketTest, TooManyDescriptorsAreRefusedAndClosed) {
  const UniqueFd null = Null();
  const ControlBuffer good = MakePing(1);
  const int before = CountOpenDescriptors();
  for (const size_t count : {kControlDescriptorsMax + 1, kControlDescriptorsMax + 2, size_t{100}}) {
    SendRaw(theirs_.fd(), good.data(), good.size(), std::vector<int>(count, null.get()));
    EXPECT_THAT(Refusal(), HasSubstr("more than 8 descriptors"));
  }
  EXPECT_EQ(CountOpenDescriptors(), before);
  SendRaw(theirs_.fd(), good.data(), good.size(),
          std::vector<int>(kControlDescriptorsMax, null.get()));
  auto message = ours_.Receive(Soon());
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_TRUE(message->ExpectDescriptors(kControlDescriptorsMax).ok());
}

TEST_F(ControlSocketTest, DescriptorsOfABadMessageAreClosed) {
  const UniqueFd null = Null();
  const int before = CountOpenDescriptors();
  SendRaw(theirs_.fd(), "garbage that is long enough", 27, {null.get(), null.get()});
  EXPECT_THAT(Refusal(), HasSubstr("identifier"));
  EXPECT_EQ(CountOpenDescriptors(), before);
}

TEST_F(ControlSocketTest, AFullDescriptorTableIsReported) {
  const UniqueFd null = Null();
  const int descriptors[] = {null.get(), null.get()};
  ASSERT_TRUE(theirs_.Send(MakePing(1), descriptors).ok());
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const UniqueFd probe = Null();  // the lowest free number
  rlimit low = limit;
  low.rlim_cur = static_cast<rlim_t>(probe.get());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  auto message = ours_.Receive(Soon());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(message.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(message.status().message()), HasSubstr("RLIMIT_NOFILE"));
}

TEST_F(ControlSocketTest, NotConnectedIsAnError) {
  ControlSocket none;
  EXPECT_EQ(none.Send(MakePing(1)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(none.Receive(0).status().code(), absl::StatusCode::kFailedPrecondition);
}

class ControlListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "bulkhead-listen-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/control";
  }
  void TearDown() override {
    unlink(path_.c_str());
    EXPECT_EQ(rmdir(folder_.c_str()), 0);
  }
  std::string folder_, path_;
};

TEST_F(ControlListenerTest, AcceptsAndReadsThePeersCredentials) {
  auto listener = ControlListener::Listen(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(listener->Accept(0).status().code(), absl::StatusCode::kDeadlineExceeded);

  auto client = ControlSocket::Connect(path_);
  ASSERT_TRUE(client.ok()) << client.status();
  auto server = listener->Accept(Soon());
  ASSERT_TRUE(server.ok()) << server.status();
  auto peer = server->Peer();
  ASSERT_TRUE(peer.ok());
  EXPECT_EQ(peer->pid, getpid());
  EXPECT_EQ(peer->uid, getuid());
  ASSERT_TRUE(client->Send(MakeGetStatus()).ok());
  auto message = server->Receive(Soon());
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message->type(), wire::Message::GetStatus);
}

TEST_F(ControlListenerTest, ASecondListenerIsRefusedAndAStalePathReplaced) {
  {
    auto first = ControlListener::Listen(path_);
    ASSERT_TRUE(first.ok());
    EXPECT_EQ(ControlListener::Listen(path_).status().code(), absl::StatusCode::kAlreadyExists);
    // Ends without cleaning up: the path stays.
    ControlListener moved = *std::move(first);
    ASSERT_EQ(link(path_.c_str(), (path_ + ".kept").c_str()), 0);
  }
  ASSERT_EQ(rename((path_ + ".kept").c_str(), path_.c_str()), 0);
  EXPECT_EQ(ControlSocket::Connect(path_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(ControlListener::Listen(path_).ok());
}

TEST_F(ControlListenerTest, AFileInTheWayIsNotRemoved) {
  UniqueFd file(open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ASSERT_TRUE(file.valid());
  EXPECT_EQ(ControlListener::Listen(path_).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(access(path_.c_str(), F_OK), 0);
}

TEST_F(ControlListenerTest, NoListenerAndPathsTooLong) {
  EXPECT_EQ(ControlSocket::Connect(path_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ControlSocket::Connect(std::string(200, 'x')).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ControlListener::Listen("").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace bulkhead
