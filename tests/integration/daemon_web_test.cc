// SPDX-License-Identifier: Apache-2.0
//
// What a running bulkheadd answers over HTTP: its metrics, and its page with who signs in to it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"
#include "tests/testing/daemon_fixture.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// The answer to a request on a Unix socket, with its headers. `headers`: of the request, each with
// its end of line.
std::string AnswerAt(const std::string& path, const std::string& url,
                     const std::string& headers = "", const std::string& method = "GET") {
  const UniqueFd file(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (connect(file.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return "";
  }
  const std::string request = method + " " + url +
                              " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers +
                              "\r\n";
  (void)!send(file.get(), request.data(), request.size(), MSG_NOSIGNAL);
  std::string answer;
  char bytes[4096];
  for (ssize_t size; (size = recv(file.get(), bytes, sizeof(bytes), 0)) > 0;) {
    answer.append(bytes, static_cast<size_t>(size));
  }
  return answer;
}

// The sum of a metric's samples.
double SumOf(const std::string& metrics, const std::string& name) {
  double sum = 0;
  std::istringstream lines(metrics);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + "{")) sum += std::stod(line.substr(line.rfind(' ')));
  }
  return sum;
}

TEST_F(Daemon, ItsMetricsCountEachCallExactlyOnce) {
  const std::string path = folder_ + "/metrics.sock";
  Write("[service]\nmetrics = '" + path + "'\n" + Scanner() + GuardOf(files_));
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  constexpr int kOpens = 50;
  for (int i = 0; i < kOpens; ++i) {
    EXPECT_TRUE(Opens(files_ + "/clean"));
    EXPECT_FALSE(Opens(files_ + "/infected"));
  }
  const std::string metrics = AnswerAt(path, "/metrics");
  EXPECT_THAT(metrics, HasSubstr("HTTP/1.1 200"));
  const double started = SumOf(metrics, "bulkhead_calls_started_total");
  EXPECT_GE(started, 2 * kOpens);
  EXPECT_EQ(SumOf(metrics, "bulkhead_calls_ended_total"), started);
  EXPECT_EQ(SumOf(metrics, "bulkhead_calls_open"), 0);
  EXPECT_EQ(SumOf(metrics, "bulkhead_calls_denied_total"), kOpens);
  EXPECT_EQ(SumOf(metrics, "bulkhead_driver_serving"), 1);
  EXPECT_EQ(SumOf(metrics, "bulkhead_driver_restarts_total"), 0);
  EXPECT_GT(SumOf(metrics, "bulkhead_process_resident_bytes"), 0);
  EXPECT_THAT(AnswerAt(path, "/api/events"), HasSubstr("HTTP/1.1 404")) << "there is no page";
  EXPECT_EQ(StopService(), 0);
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

class PageOfADaemon : public Daemon {
 protected:
  // The header of a session for what `bulkhead sign-in` prints.
  std::string SignIn(const std::string& path) {
    const Outcome link = Run("sign-in" + pid_);
    EXPECT_EQ(link.code, 0) << link.text;
    constexpr std::string_view kFragment = "#sign-in=";
    const size_t at = link.text.find(kFragment);
    if (at == std::string::npos) return "";
    EXPECT_THAT(link.text, StartsWith("http://localhost/#"));
    std::string secret = link.text.substr(at + kFragment.size());
    secret.erase(secret.find_last_not_of('\n') + 1);
    return SessionFor(path, secret);
  }
  static std::string SessionFor(const std::string& path, const std::string& secret) {
    const std::string answer =
        AnswerAt(path, "/api/sign-in", "Authorization: Bearer " + secret + "\r\n", "POST");
    const auto json = nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n") + 4), nullptr,
                                            /*allow_exceptions=*/false);
    if (!json.is_object()) return answer;
    return "Authorization: Bearer " + json.value("session", "") + "\r\n";
  }
  // How an action went, when it has ended: "" or the error.
  static std::string Came(const std::string& path, const std::string& session) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    for (;;) {
      const std::string answer = AnswerAt(path, "/api/session", session);
      const auto json = nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n") + 4), nullptr,
                                              /*allow_exceptions=*/false);
      if (!json.is_object() || !json.contains("action")) return answer;
      if (!json["action"]["running"]) return json["action"]["error"];
      if (MonotonicNowNs() > until_ns) return "still running";
      poll(nullptr, 0, 20);
    }
  }
};

TEST_F(PageOfADaemon, ItsPageReadsWhatTheCommandLineShows) {
  const std::string path = folder_ + "/web.sock";
  Write("[service]\nmetrics = '" + path + "'\npage = true\n" + Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  std::string session;
  const auto body = [&](const std::string& url) {
    const std::string answer = AnswerAt(path, url, session);
    EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200")) << url;
    const size_t end = answer.find("\r\n\r\n");
    return end == std::string::npos ? answer : answer.substr(end + 4);
  };
  EXPECT_THAT(body("/"), HasSubstr("</html>"));
  EXPECT_FALSE(Opens(files_ + "/infected"));
  // It is told behind the access.
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (Events().back()["event"] != "Denied" && MonotonicNowNs() < until_ns) continue;
  EXPECT_THAT(body("/api/events?after=0"), Not(HasSubstr("infected")))
      << "any user of the machine may ask";
  session = SignIn(path);
  const auto events = nlohmann::json::parse(body("/api/events?after=0"), nullptr, false);
  ASSERT_TRUE(events.is_object());
  EXPECT_EQ(events["events"], nlohmann::json(Events()));
  EXPECT_EQ(events["newest"], events["events"].size());
  auto status = nlohmann::json::parse(body("/api/status"), nullptr, false);
  ASSERT_TRUE(status.is_object());
  const auto shown = nlohmann::json::parse(Run("status --json -").text, nullptr, false);
  ASSERT_TRUE(shown.is_object());
  EXPECT_GT(status["resident_bytes"]["host:scanner"], 0);
  status.erase("resident_bytes");
  // Nothing happens meanwhile: all but ages is the same.
  nlohmann::json running = shown["running"][0];
  for (nlohmann::json* each : {&status, &running}) {
    each->erase("uptime_ms");
    (*each)["drivers"][0].erase("counters_age_ms");
    (*each)["drivers"][0].erase("shim_silent_ms");
  }
  EXPECT_EQ(status, running);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(PageOfADaemon, ASignedInAdminReloadsAndReleases) {
  const std::string path = folder_ + "/web.sock";
  const std::string service_section = "[service]\nmetrics = '" + path + "'\npage = true\n";
  Write(service_section + Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  EXPECT_TRUE(Opens(more_ + "/infected"));
  Write(service_section + Scanner() + GuardOf(files_) + GuardOf(more_));
  EXPECT_THAT(AnswerAt(path, "/api/reload", "", "POST"), HasSubstr("HTTP/1.1 401"));
  const std::string session = SignIn(path);
  EXPECT_THAT(AnswerAt(path, "/api/reload", session, "POST"), HasSubstr("HTTP/1.1 202"));
  EXPECT_EQ(Came(path, session), "");
  EXPECT_FALSE(Opens(more_ + "/infected"));
  EXPECT_THAT(TextOf("PageUsed"), HasSubstr("user 0: reload"));
  // What the command line would say.
  Write(service_section + "[[driver]]\nname = 'nothing'\n" + GuardOf(files_));
  EXPECT_THAT(AnswerAt(path, "/api/reload", session, "POST"), HasSubstr("HTTP/1.1 202"));
  EXPECT_THAT(Came(path, session), HasSubstr("nothing"));
  EXPECT_THAT(AnswerAt(path, "/api/release?driver=scanner", session, "POST"),
              HasSubstr("HTTP/1.1 202"));
  EXPECT_THAT(Came(path, session), HasSubstr("not quarantined"));
  EXPECT_THAT(AnswerAt(path, "/api/sign-out", session, "POST"), HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(AnswerAt(path, "/api/reload", session, "POST"), HasSubstr("HTTP/1.1 401"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(PageOfADaemon, AnAdminWhoseGroupIsDroppedIsSignedOut) {
  if (const std::string why = WhyNoMembers(); !why.empty()) GTEST_SKIP() << why;
  const std::string path = folder_ + "/web.sock";
  const std::string rest =
      "[service]\nmetrics = '" + path + "'\npage = true\n" + Scanner() + GuardOf(files_);
  Write("[operators]\nreaders = 'games'\nadmins = 'users'\n" + rest);
  ASSERT_GT(Start(), 0);
  const Outcome refused = RunAs(kGames, "sign-in" + pid_);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.text, HasSubstr("may not sign in to the page"));
  const Outcome link = RunAs(kUsers, "sign-in" + pid_);
  EXPECT_EQ(link.code, 0) << link.text;
  std::string secret = link.text.substr(link.text.find("#sign-in=") + 9);
  secret.erase(secret.find_last_not_of('\n') + 1);
  const std::string session = SessionFor(path, secret);
  EXPECT_THAT(AnswerAt(path, "/api/session", session), HasSubstr("\"user\":100"));
  Write("[operators]\nreaders = 'users'\n" + rest);
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_THAT(AnswerAt(path, "/api/status", session), HasSubstr("HTTP/1.1 401"));
  EXPECT_THAT(AnswerAt(path, "/api/reload", session, "POST"), HasSubstr("HTTP/1.1 401"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Daemon, WithoutAPageThereIsNoSignIn) {
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  const Outcome refused = Run("sign-in" + pid_);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.text, HasSubstr("page = true"));
  EXPECT_EQ(StopService(), 0);
}

}  // namespace
}  // namespace bulkhead
