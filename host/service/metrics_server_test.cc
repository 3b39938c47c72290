// SPDX-License-Identifier: Apache-2.0
#include "host/service/metrics_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

UniqueFd ConnectTo(const MetricsServer& server) {
  UniqueFd file(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(server.port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(file.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  return file;
}

std::string Ask(const UniqueFd& file, const std::string& request) {
  EXPECT_EQ(send(file.get(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  char bytes[4096];
  for (ssize_t size; (size = recv(file.get(), bytes, sizeof(bytes), 0)) > 0;) {
    answer.append(bytes, static_cast<size_t>(size));
  }
  return answer;
}

std::string Get(const UniqueFd& file, const std::string& path) {
  return Ask(file, "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
}

class MetricsServerTest : public ::testing::Test {
 protected:
  void Start(const std::string& address) {
    auto server = MetricsServer::Listen(
        address, {.metrics =
                      [this] {
                        asked_.fetch_add(1);
                        return std::string("bulkhead_info 1\n");
                      },
                  .status = [](bool) { return "{}"; },
                  .events = [](uint64_t after, bool) { return std::to_string(after); },
                  .admin = &admin_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::atomic<int> asked_ = 0;
  PageAdmin admin_{{.may_change = [](const OperatorPeer&) { return true; },
                    .reload = [] { return absl::OkStatus(); },
                    .release = [](const std::string&) { return absl::OkStatus(); },
                    .used = [](const std::string&) {}}};
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsServerTest, AnswersAReaderOnThisMachine) {
  Start("127.0.0.1:0");
  const std::string answer = Get(ConnectTo(*server_), "/metrics");
  EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("version=0.0.4"),
                            HasSubstr("\r\n\r\nbulkhead_info 1\n")));
  EXPECT_THAT(Get(ConnectTo(*server_), "/none"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask(ConnectTo(*server_),
                  "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                  "Content-Length: 0\r\n\r\n"),
              StartsWith("HTTP/1.1 405"));
  EXPECT_EQ(asked_.load(), 1);
}

TEST_F(MetricsServerTest, APageGetsItsHeadersAndKeepsNoConnection) {
  Start("127.0.0.1:0");
  // The connection is closed by the server: the request does not ask for it.
  const std::string page = Ask(ConnectTo(*server_), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(page, AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Security-Policy: "),
                          HasSubstr("X-Content-Type-Options: nosniff"), HasSubstr("</html>")));
  EXPECT_THAT(page, Not(HasSubstr("Access-Control")));
  EXPECT_THAT(Get(ConnectTo(*server_), "/api/events?after=7&x=y"), HasSubstr("\r\n\r\n7"));
  const std::string head =
      Ask(ConnectTo(*server_), "HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(head, AllOf(StartsWith("HTTP/1.1 200"), Not(HasSubstr("<html"))));
}

TEST_F(MetricsServerTest, ASessionIsSignedInForAndAsked) {
  Start("127.0.0.1:0");
  const auto post = [this](const std::string& path, const std::string& headers) {
    return Ask(ConnectTo(*server_),
               "POST " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  };
  const std::string link = admin_.MakeLink({.user = 0, .groups = {}});
  const std::string answer = post("/api/sign-in", "Authorization: Bearer " + link + "\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  const size_t at = answer.find("\"session\":\"");
  ASSERT_NE(at, std::string::npos) << answer;
  const std::string bearer = "Authorization: Bearer " + answer.substr(at + 11, 64) + "\r\n";
  EXPECT_THAT(Ask(ConnectTo(*server_),
                  "GET /api/session HTTP/1.1\r\nHost: localhost\r\n" + bearer + "\r\n"),
              AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("\"user\":0")));
  EXPECT_THAT(post("/api/release?driver=scanner", bearer), StartsWith("HTTP/1.1 202"));
  EXPECT_THAT(post("/api/release?driver=scanner", bearer + "Origin: http://evil.example\r\n"),
              StartsWith("HTTP/1.1 403"));
  // A body is not read.
  EXPECT_THAT(post("/api/sign-out", bearer + "Content-Length: 1000000\r\n"),
              StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(post("/api/reload", bearer),
              AllOf(StartsWith("HTTP/1.1 401"), HasSubstr("WWW-Authenticate: Bearer")));
}

TEST_F(MetricsServerTest, ARequestForAnotherNameOrOfAnotherSiteLearnsNothing) {
  Start("127.0.0.1:0");
  EXPECT_THAT(Ask(ConnectTo(*server_),
                  "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 421"));
  EXPECT_THAT(Ask(ConnectTo(*server_), "GET /metrics HTTP/1.0\r\n\r\n"),
              Not(HasSubstr("bulkhead_info")));
  EXPECT_THAT(Ask(ConnectTo(*server_),
                  "GET /metrics HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n"
                  "Sec-Fetch-Mode: no-cors\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 403"));
  EXPECT_EQ(asked_.load(), 0);
}

TEST_F(MetricsServerTest, NonsenseAndSilentPeersKeepNoOtherFromItsAnswer) {
  Start("127.0.0.1:0");
  std::vector<UniqueFd> silent;
  for (int i = 0; i < MetricsServer::kConnectionsMax / 2; ++i) {
    silent.push_back(ConnectTo(*server_));
    const std::string part = i % 2 == 0 ? "GET /met" : std::string(5000, '\xff') + "\r\n\r\n";
    (void)!send(silent.back().get(), part.data(), part.size(), MSG_NOSIGNAL);
  }
  EXPECT_THAT(Get(ConnectTo(*server_), "/metrics"), StartsWith("HTTP/1.1 200"));
  server_.reset();  // the test ends, or its time limit
}

TEST_F(MetricsServerTest, OnlyThisMachineIsListenedTo) {
  for (const std::string address :
       {"0.0.0.0:9464", "192.168.1.1:9464", "[::]:9464", "localhost:9464", "9464", "127.0.0.1",
        "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:x", "metrics.sock", ""}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckMetricsAddress(address))) << address;
    EXPECT_FALSE(MetricsServer::Listen(address, {}).ok()) << address;
  }
  for (const std::string address : {"127.0.0.1:9464", "127.1.2.3:1", "[::1]:9464", "/run/a.sock"}) {
    EXPECT_TRUE(CheckMetricsAddress(address).ok()) << address;
  }
  EXPECT_FALSE(CheckMetricsAddress("/" + std::string(200, 'a')).ok());
}

TEST_F(MetricsServerTest, AUnixSocketIsItsOwnersAndReplacesADeadOne) {
  const std::string path = ::testing::TempDir() + "/metrics-" + std::to_string(getpid());
  {
    const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    path.copy(name.sun_path, sizeof(name.sun_path) - 1);
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
  }
  Start(path);
  struct stat status = {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07, 0u) << "others";
  const auto second = MetricsServer::Listen(path, {});
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  server_.reset();
  EXPECT_NE(stat(path.c_str(), &status), 0) << "it is removed";
}

}  // namespace
}  // namespace bulkhead
