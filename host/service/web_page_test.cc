// SPDX-License-Identifier: Apache-2.0
#include "host/service/web_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

#include "host/service/event_history.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const WebSources kMetricsOnly = {
    .metrics = [] { return "bulkhead_info 1\n"; }, .status = {}, .events = {}};
const WebSources kAll = {.metrics = kMetricsOnly.metrics,
                         .status = [] { return "{}"; },
                         .events = [](uint64_t after) { return std::to_string(after); }};

WebRequest Get(std::string_view path) {
  return {.method = "GET",
          .path = path,
          .host = "127.0.0.1:9464",
          .fetch_site = {},
          .fetch_mode = {},
          .after = {}};
}

TEST(WebPage, WithoutIt_OnlyTheMetricsAreThere) {
  EXPECT_EQ(Answer(Get("/metrics"), kMetricsOnly).body, "bulkhead_info 1\n");
  for (const char* path : {"/", "/page.js", "/api/status", "/api/events", ""}) {
    const WebAnswer answer = Answer(Get(path), kMetricsOnly);
    EXPECT_EQ(answer.status, 404u) << path;
    EXPECT_THAT(answer.body, HasSubstr("/metrics"));
  }
}

TEST(WebPage, ItsFilesAndWhatTheyReadAreThere) {
  EXPECT_THAT(Answer(Get("/"), kAll).type, HasSubstr("text/html"));
  EXPECT_EQ(Answer(Get("/api/status"), kAll).body, "{}");
  EXPECT_EQ(Answer(Get("/api/events"), kAll).body, "0");
  WebRequest events = Get("/api/events");
  events.after = "12";
  EXPECT_EQ(Answer(events, kAll).body, "12");
  for (const char* after : {"-1", "x", "1e3", "99999999999999999999"}) {
    events.after = after;
    EXPECT_EQ(Answer(events, kAll).status, 400u) << after;
  }
  for (const char* path : {"", "*", "page.js", "xpage.js", "/..", "/../page.js", "/page.js/",
                           "//page.js", "/api", "/api/"}) {
    EXPECT_EQ(Answer(Get(path), kAll).status, 404u) << path;
  }
}

TEST(WebPage, NothingButReadingIsAnswered) {
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", ""}) {
    WebRequest request = Get("/api/status");
    request.method = method;
    EXPECT_EQ(Answer(request, kAll).status, 405u) << method;
  }
}

TEST(WebPage, AnotherNameOfThisMachineIsRefused) {
  const auto status = [](std::string_view path, std::string_view host) {
    WebRequest request = Get(path);
    request.host = host;
    return Answer(request, kAll).status;
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

TEST(WebPage, APageOfAnotherSiteGetsNothingButALinkToThePageWorks) {
  const auto status = [](const char* site, const char* mode) {
    WebRequest request = Get("/api/status");
    request.fetch_site = site;
    request.fetch_mode = mode;
    return Answer(request, kAll).status;
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

TEST(WebPage, NothingFromOutsideMayBeInIt) {
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

TEST(WebPage, TheStateIsThatOfTheCommandLineAndWhatEachProcessTakes) {
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

TEST(WebPage, EventsHaveTheirNumbersAndWhatIsNoLongerKnown) {
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
