// SPDX-License-Identifier: Apache-2.0
#include "host/service/web_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <thread>

#include "host/service/event_history.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const WebSources kMetricsOnly = {.metrics = [] { return "bulkhead_info 1\n"; }};

WebRequest Asks(std::string_view method, std::string_view path) {
  WebRequest request;
  request.method = method;
  request.path = path;
  request.host = "127.0.0.1:9464";
  return request;
}
WebRequest Get(std::string_view path) { return Asks("GET", path); }

class WebPage : public ::testing::Test {
 protected:
  WebAnswer Answer(const WebRequest& request) { return bulkhead::Answer(request, kAll); }
  unsigned Post(std::string_view path, std::string_view authorization,
                std::string_view driver = "") {
    WebRequest request = Asks("POST", path);
    request.authorization = authorization;
    request.driver = driver;
    return Answer(request).status;
  }
  // The header of a session.
  std::string SignedIn() {
    const absl::StatusOr<std::string> session = admin_.SignIn(admin_.MakeLink({0, {}}));
    EXPECT_TRUE(session.ok()) << session.status();
    return "Bearer " + session.value_or("");
  }

  bool may_ = true;
  int reloads_ = 0;
  std::string released_;
  PageAdmin admin_{{.may_change = [this](const OperatorPeer&) { return may_; },
                    .reload =
                        [this] {
                          ++reloads_;
                          return absl::OkStatus();
                        },
                    .release =
                        [this](const std::string& driver) {
                          released_ = driver;
                          return absl::NotFoundError("no driver <b>\xff");
                        },
                    .used = [](const std::string&) {}}};
  const WebSources kAll = {
      .metrics = kMetricsOnly.metrics,
      .status = [](bool words) { return words ? R"({"words":1})" : "{}"; },
      .events = [](uint64_t after,
                   bool words) { return std::to_string(after) + (words ? " words" : ""); },
      .admin = &admin_};
};

TEST_F(WebPage, WithoutIt_OnlyTheMetricsAreThere) {
  EXPECT_EQ(bulkhead::Answer(Get("/metrics"), kMetricsOnly).body, "bulkhead_info 1\n");
  for (const char* path : {"/", "/page.js", "/api/status", "/api/events", ""}) {
    const WebAnswer answer = bulkhead::Answer(Get(path), kMetricsOnly);
    EXPECT_EQ(answer.status, 404u) << path;
    EXPECT_THAT(answer.body, HasSubstr("/metrics"));
  }
}

TEST_F(WebPage, ItsFilesAndWhatTheyReadAreThere) {
  EXPECT_THAT(Answer(Get("/")).type, HasSubstr("text/html"));
  EXPECT_EQ(Answer(Get("/api/status")).body, "{}");
  EXPECT_EQ(Answer(Get("/api/events")).body, "0");
  WebRequest events = Get("/api/events");
  events.after = "12";
  EXPECT_EQ(Answer(events).body, "12");
  for (const char* after : {"-1", "x", "1e3", "99999999999999999999"}) {
    events.after = after;
    EXPECT_EQ(Answer(events).status, 400u) << after;
  }
  for (const char* path : {"", "*", "page.js", "xpage.js", "/..", "/../page.js", "/page.js/",
                           "//page.js", "/api", "/api/"}) {
    EXPECT_EQ(Answer(Get(path)).status, 404u) << path;
  }
}

TEST_F(WebPage, WithoutASessionNothingButReadingIsAnswered) {
  for (const char* path : {"/", "/metrics", "/api/status", "/api/session", "/page.js", ""}) {
    EXPECT_EQ(Answer(Asks("POST", path)).status, 405u) << path;
    EXPECT_EQ(bulkhead::Answer(Asks("POST", path), kMetricsOnly).status, 405u) << path;
  }
  for (const char* path : {"/api/reload", "/api/release", "/api/sign-in", "/api/sign-out"}) {
    for (const char* header : {"", "Bearer ", "Bearer x", "Basic cm9vdDo=", "bearer"}) {
      EXPECT_EQ(Post(path, header), 401u) << path << " " << header;
    }
    EXPECT_EQ(Answer(Get(path)).status, 404u) << path;
    EXPECT_EQ(bulkhead::Answer(Asks("POST", path), kMetricsOnly).status, 405u) << path;
  }
  for (const char* method : {"PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", ""}) {
    EXPECT_EQ(Answer(Asks(method, "/api/status")).status, 405u) << method;
    EXPECT_EQ(Answer(Asks(method, "/api/reload")).status, 405u) << method;
  }
}

TEST_F(WebPage, WordsOfDriversAreForThoseWhoAreSignedIn) {
  WebRequest status = Get("/api/status"), events = Get("/api/events"), page = Get("/");
  EXPECT_EQ(Answer(status).body, "{}");
  EXPECT_EQ(Answer(events).body, "0");
  const std::string header = SignedIn();
  for (WebRequest* request : {&status, &events, &page}) request->authorization = header;
  EXPECT_EQ(Answer(status).body, R"({"words":1})");
  EXPECT_EQ(Answer(events).body, "0 words");
  EXPECT_EQ(Answer(page).status, 200u);
  // Not the same with less, in silence.
  may_ = false;
  EXPECT_EQ(Answer(status).status, 401u);
  EXPECT_EQ(Answer(events).status, 401u);
  EXPECT_EQ(Answer(page).status, 200u) << "what it needs to say so";
}

TEST_F(WebPage, ALinkIsExchangedForASessionThatChangesThings) {
  WebRequest sign_in = Asks("POST", "/api/sign-in");
  const std::string link = "Bearer " + admin_.MakeLink({7, {}});
  sign_in.authorization = link;
  const auto answer = nlohmann::json::parse(Answer(sign_in).body, nullptr, false);
  ASSERT_TRUE(answer.contains("session"));
  EXPECT_EQ(Answer(sign_in).status, 401u) << "once";
  const std::string header = "Bearer " + answer["session"].get<std::string>();
  const auto state = [&] {
    WebRequest session = Get("/api/session");
    session.authorization = header;
    return nlohmann::json::parse(Answer(session).body, nullptr, false);
  };
  EXPECT_EQ(state()["user"], 7);
  EXPECT_FALSE(state().contains("action"));
  const auto ends = [&] {
    while (state()["action"]["running"] == true) std::this_thread::yield();
    return state()["action"];
  };
  EXPECT_EQ(Post("/api/reload", header), 202u);
  EXPECT_EQ(ends()["error"], "");
  EXPECT_EQ(reloads_, 1);
  EXPECT_EQ(Post("/api/release", header, "scanner"), 202u);
  EXPECT_EQ(ends()["error"], "no driver <b>\xEF\xBF\xBD");
  EXPECT_EQ(ends()["name"], "release scanner");
  EXPECT_EQ(released_, "scanner");
  EXPECT_EQ(Post("/api/sign-out", header), 200u);
  EXPECT_EQ(Post("/api/reload", header), 401u);
  EXPECT_EQ(reloads_, 1);
}

TEST_F(WebPage, APageOfAnotherOriginChangesNothingWithASecretEither) {
  const std::string header = SignedIn();
  const auto status = [&](std::string_view origin, std::string_view site) {
    WebRequest request = Asks("POST", "/api/reload");
    request.authorization = header;
    request.origin = origin;
    request.fetch_site = site;
    request.fetch_mode = "navigate";
    return Answer(request).status;
  };
  for (const char* origin :
       {"http://evil.example", "null", "http://127.0.0.1", "http://localhost:9464",
        "https://127.0.0.1:9464", "http://127.0.0.1:9465"}) {
    EXPECT_EQ(status(origin, "same-origin"), 403u) << origin;
  }
  for (const char* site : {"cross-site", "same-site", "none"}) {
    EXPECT_EQ(status("", site), 403u) << site;
  }
  EXPECT_EQ(status("http://127.0.0.1:9464", "same-origin"), 202u);
}

TEST_F(WebPage, AnotherNameOfThisMachineIsRefused) {
  const auto status = [this](std::string_view path, std::string_view host) {
    WebRequest request = Get(path);
    request.host = host;
    return Answer(request).status;
  };
  for (const char* path : {"/", "/metrics", "/api/status", "/api/events", "/page.js"}) {
    for (const char* host : {"localhost", "LocalHost:9464", "127.0.0.1", "127.1.2.3:1", "[::1]",
                             "[::1]:9464", "localhost:18080"}) {
      EXPECT_EQ(status(path, host), 200u) << path << " " << host;
    }
    for (const char* host : {"", "evil.example", "evil.example:9464", "127.0.0.1.evil.example",
                             "localhost.evil.example", "evil.example:127.0.0.1", "localhost:9464:x",
                             "localhost@evil.example", "128.0.0.1", "[::2]", "[::1].evil.example",
                             "[::1", "::1", ":9464", "127.1"}) {
      EXPECT_EQ(status(path, host), 421u) << path << " " << host;
    }
  }
}

TEST_F(WebPage, APageOfAnotherSiteGetsNothingButALinkToThePageWorks) {
  const auto status = [this](const char* site, const char* mode) {
    WebRequest request = Get("/api/status");
    request.fetch_site = site;
    request.fetch_mode = mode;
    return Answer(request).status;
  };
  for (const char* site : {"cross-site", "same-site", "unheard-of"}) {
    for (const char* mode : {"no-cors", "cors", "same-origin", "websocket", ""}) {
      EXPECT_EQ(status(site, mode), 403u) << site << " " << mode;
    }
    EXPECT_EQ(status(site, "navigate"), 200u) << site;
  }
  EXPECT_EQ(status("same-origin", "cors"), 200u);
  EXPECT_EQ(status("none", "navigate"), 200u);
  EXPECT_EQ(status("", ""), 200u);
}

TEST_F(WebPage, NothingFromOutsideMayBeInIt) {
  std::string headers;
  for (const WebHeader& header : WebHeaders()) {
    headers += std::string(header.name) + ": " + header.value + "\n";
  }
  EXPECT_THAT(headers, HasSubstr("Content-Security-Policy: default-src 'none';"));
  EXPECT_THAT(headers, HasSubstr("frame-ancestors 'none'"));
  EXPECT_THAT(headers, Not(HasSubstr("unsafe")));
  EXPECT_THAT(headers, Not(HasSubstr("Access-Control")));
  // Each file that one of them names is one of them.
  std::set<std::string> names;
  for (const EmbeddedFile& file : PageFiles()) names.emplace(file.name);
  const std::regex link(R"re((?:from '\./|(?:src|href)=")([^'"#]+)['"])re");
  size_t links = 0;
  for (const EmbeddedFile& file : PageFiles()) {
    const std::string text(file.text);
    for (std::sregex_iterator found(text.begin(), text.end(), link), end; found != end; ++found) {
      EXPECT_TRUE(names.contains((*found)[1])) << file.name << ": " << (*found)[1];
      ++links;
    }
    const std::regex outside(
        R"re(https?://(?!www\.w3\.org/2000/svg)|url\(|@import|\sstyle=|\son\w+=)re");
    EXPECT_FALSE(std::regex_search(text, outside)) << file.name;
    EXPECT_FALSE(
        std::regex_search(text, std::regex("innerHTML|insertAdjacent|document\\.write|eval")))
        << file.name;
  }
  EXPECT_GE(links, 6u);
}

TEST_F(WebPage, TheStateIsThatOfTheCommandLineAndWhatEachProcessTakes) {
  StatusFields status;
  status.pid = static_cast<uint32_t>(getpid());
  status.guards = {{.folder = "/a\xff</script>", .protection = {}, .losses = 2}};
  DriverStatusFields driver;
  driver.name = "<b>";
  driver.pid = status.pid;
  driver.statistics.calls = 5;
  status.drivers = {driver};
  const auto json = nlohmann::json::parse(StatusBody(status), nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object()) << "bytes that are no UTF-8";
  EXPECT_EQ(json["guards"][0]["folder"], "/a\xEF\xBF\xBD</script>");
  EXPECT_EQ(json["guards"][0]["protection"], "none");
  EXPECT_EQ(json["drivers"][0]["name"], "<b>");
  EXPECT_EQ(json["drivers"][0]["counters"]["calls"], 5);
  EXPECT_EQ(json["drivers"][0]["content_loading"], nullptr);
  EXPECT_GT(json["resident_bytes"]["service"], 0);
  EXPECT_GT(json["resident_bytes"]["host:<b>"], 0);
}

TEST_F(WebPage, EventsHaveTheirNumbersAndWhatIsNoLongerKnown) {
  EventHistory history;
  for (uint32_t i = 0; i < EventHistory::kEventsMax + 3; ++i) {
    DriverEvent event = DriverEvent::Of(DriverEventKind::kEnded);
    event.text = "\xff\"</script>";
    history.Add(event, i);
  }
  const auto json =
      nlohmann::json::parse(EventsBody(history.After(0)), nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["newest"], EventHistory::kEventsMax + 3);
  EXPECT_EQ(json["lost"], 3);
  ASSERT_EQ(json["events"].size(), EventHistory::kAnsweredMax);
  EXPECT_EQ(json["events"][0]["sequence"], 4);
  EXPECT_EQ(json["events"][0]["event"], "Ended");
  EXPECT_EQ(EventsBody({}), R"({"newest":0,"lost":0,"events":[]})");
}

}  // namespace
}  // namespace bulkhead
