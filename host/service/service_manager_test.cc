// SPDX-License-Identifier: Apache-2.0
#include "host/service/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace bulkhead {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class ServiceManagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "/notify-" + std::to_string(getpid());
    Listen(path_);
    setenv("NOTIFY_SOCKET", path_.c_str(), 1);
  }
  void TearDown() override {
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unlink(path_.c_str());
  }
  // A name that begins with '@' is one without a path.
  void Listen(const std::string& name) {
    socket_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
    ASSERT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
              0);
  }
  std::vector<std::string> Heard() {
    std::vector<std::string> messages;
    char bytes[4096];
    for (ssize_t size; (size = recv(socket_.get(), bytes, sizeof(bytes), 0)) >= 0;) {
      messages.emplace_back(bytes, static_cast<size_t>(size));
    }
    return messages;
  }

  std::string path_;
  UniqueFd socket_;
};

TEST_F(ServiceManagerTest, IsToldOfEachState) {
  ServiceManager manager;
  manager.Starting("starts", 2'000'000);
  manager.Ready("two guards\nREADY=0");
  manager.Reloading();
  manager.Stopping();
  EXPECT_THAT(Heard(), ElementsAre("EXTEND_TIMEOUT_USEC=2000", "STATUS=starts", "READY=1",
                                   "STATUS=two guards?READY=0",
                                   StartsWith("RELOADING=1\nMONOTONIC_USEC="), "STOPPING=1"));
}

TEST_F(ServiceManagerTest, MayHaveANameWithoutAPath) {
  const std::string name = "@bulkhead-test-" + std::to_string(getpid());
  Listen(name);
  setenv("NOTIFY_SOCKET", name.c_str(), 1);
  ServiceManager manager;
  manager.Ready("");
  EXPECT_THAT(Heard(), ElementsAre("READY=1"));
}

TEST_F(ServiceManagerTest, OneThatDoesNotReadHoldsNothingUpAndIsToldLater) {
  ServiceManager manager;
  for (int i = 0; i < 10'000; ++i) manager.Says(std::to_string(i));
  manager.Ready("ready");
  EXPECT_THAT(Heard(), testing::Not(Contains("READY=1"))) << "its queue is not full: enlarge i";
  manager.Resend();
  EXPECT_THAT(Heard(), ElementsAre("READY=1", "STATUS=ready"));
}

TEST_F(ServiceManagerTest, WithoutOneNothingHappens) {
  unsetenv("NOTIFY_SOCKET");
  ServiceManager manager;
  manager.Ready("ready");
  manager.Alive();
  EXPECT_THAT(Heard(), IsEmpty());
  EXPECT_EQ(manager.alive_every_ns(), 0u);
}

TEST_F(ServiceManagerTest, IsToldOfLifeThreeTimesWithinItsLimit) {
  setenv("WATCHDOG_USEC", "3000000", 1);
  ServiceManager manager;
  EXPECT_EQ(manager.alive_every_ns(), 1'000'000'000u);
  manager.Alive();
  EXPECT_THAT(Heard(), ElementsAre("WATCHDOG=1"));
}

}  // namespace
}  // namespace bulkhead
