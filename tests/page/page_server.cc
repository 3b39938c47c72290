// SPDX-License-Identifier: Apache-2.0
//
// page-server [PORT]: the service's own server and page on 127.0.0.1, over a state that a test
// scripts. It prints its port, then reads a command a line and answers each with "ok":
//
//   calls N                 every driver has answered N more calls
//   event LEVEL DRIVER TEXT it happened; DRIVER "-": to none
//   protection LEVEL        0 to 2, of the first guard
//   silent MS               the shim does not answer since; 0: it does
//   ready TEXT              an event that quotes no driver
//   audit                   the first driver and the first guard are audited
//   state DRIVER STATE      as "quarantined"
//   link                    answers with the fragment of a link that signs in
//   lose                    the right of those who are signed in
//   fail [TEXT]             so ends each next reload and release
//   hang                    requests for the state wait, until the next command
//
// It ends with its standard input.
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <iostream>
#include <mutex>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "host/service/event_fields.h"
#include "host/service/event_history.h"
#include "host/service/metrics_server.h"
#include "host/service/metrics_text.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

// What a hostile vendor or user could choose: markup, a line that is turned around, control
// characters, bytes that are no UTF-8.
constexpr char kHostile[] =
    "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>"
    "\xE2\x80\xAEtxet\xE2\x80\xAC\x1b[31m&amp;\xff'\"`${window.hacked=1}";

DriverStatusFields DriverOf(const std::string& name) {
  DriverStatusFields driver;
  driver.name = name;
  driver.version = "1.2";
  driver.state = "serving";
  driver.generation = 3;
  driver.pid = static_cast<uint32_t>(getpid());
  driver.content_version = 4;
  driver.last_known_good = 3;
  driver.restarts = 2;
  driver.last_end = "killed";
  driver.protection.level = BH_PROTECTION_FULL;
  driver.sandbox_layers = 1;
  driver.sandbox_lacks = {"landlock: the kernel has none"};
  return driver;
}

class ScriptedService {
 public:
  ScriptedService() : began_ns_(MonotonicNowNs()) {
    status_.pid = static_cast<uint32_t>(getpid());
    status_.attachment = "fanotify";
    status_.config_path = "/etc/bulkhead/bulkhead.toml";
    status_.guards = {
        {.folder = "/srv/uploads", .protection = {BH_PROTECTION_FULL, {}}, .losses = 0},
        {.folder = absl::StrCat("/srv/", kHostile),
         .protection = {BH_PROTECTION_FULL, {}},
         .losses = 1}};
    status_.drivers = {DriverOf("scanner"), DriverOf(kHostile)};
    Happened(DriverEvent::Level::kInfo, "", "2 folders", DriverEventKind::kServiceReady);
  }

  WebSources Sources() {
    return {.metrics = [this] { return MetricsText(Now(), history_.Counts()); },
            .status = [this](bool) { return StatusBody(Now()); },
            .events = [this](uint64_t after,
                             bool words) { return EventsBody(history_.After(after, words)); },
            .admin = &admin_};
  }
  std::string Link() { return "#sign-in=" + admin_.MakeLink({.user = 1001, .groups = {}}); }

  bool Command(const std::string& line) {
    std::istringstream words(line);
    std::string verb, driver, text;
    uint32_t number = 0;
    words >> verb;
    const std::scoped_lock lock(mutex_);
    hangs_ = verb == "hang";
    resumed_.notify_all();
    if (verb == "hang") return true;
    if (verb == "ready") {
      std::getline(words >> std::ws, text);
      Happened(DriverEvent::Level::kInfo, "", text, DriverEventKind::kServiceReady);
      return true;
    }
    if (verb == "audit") {
      status_.drivers[0].mode = status_.guards[0].mode = BH_MODE_AUDIT;
      status_.drivers[0].protection = {BH_PROTECTION_DEGRADED, {"audit: it denies nothing"}};
      status_.guards[0].protection = {BH_PROTECTION_DEGRADED, {"audit: what is denied goes on"}};
      return true;
    }
    if (verb == "lose") {
      may_change_ = false;
      return true;
    }
    if (verb == "fail") {
      failure_.clear();
      std::getline(words >> std::ws, failure_);
      return true;
    }
    if (verb == "state") {
      words >> driver >> text;
      for (DriverStatusFields& each : status_.drivers) {
        if (each.name == driver) each.state = text;
      }
      return true;
    }
    if (!(words >> number)) return false;
    if (verb == "calls") {
      for (DriverStatusFields& each : status_.drivers) {
        each.statistics.calls += number;
        each.statistics.answered += number;
        each.statistics.denied += number / 10;
        each.statistics.took[4] += number - number / 50;
        each.statistics.took[13] += number / 50;
      }
    } else if (verb == "event") {
      words >> driver;
      std::getline(words >> std::ws, text);
      Happened(static_cast<DriverEvent::Level>(number), driver == "-" ? "" : driver,
               text == "HOSTILE" ? kHostile : text, DriverEventKind::kEnded);
    } else if (verb == "protection") {
      status_.guards[0].protection = {static_cast<bh_protection>(number),
                                      {"others can mount over it: " + std::string(kHostile)}};
    } else if (verb == "silent") {
      for (DriverStatusFields& each : status_.drivers) {
        each.shim_silent_ms = each.statistics_age_ms = number;
      }
    } else {
      return false;
    }
    return true;
  }

 private:
  void Happened(DriverEvent::Level level, const std::string& driver, const std::string& text,
                DriverEventKind kind) {
    DriverEvent event = DriverEvent::Of(kind);
    event.level = level;
    event.driver = driver;
    event.end = BH_END_CRASHED;
    event.text = text;
    history_.Add(event, WallClockUs());
  }

  StatusFields Now() {
    std::unique_lock lock(mutex_);
    resumed_.wait(lock, [this] { return !hangs_; });
    status_.uptime_ms = (MonotonicNowNs() - began_ns_) / kNanosecondsPerMillisecond;
    return status_;
  }

  absl::Status Release(const std::string& name) {
    const std::scoped_lock lock(mutex_);
    if (!failure_.empty()) return absl::InternalError(failure_);
    for (DriverStatusFields& driver : status_.drivers) {
      if (driver.name == name) driver.state = "serving";
    }
    return absl::OkStatus();
  }
  absl::Status Reload() {
    const std::scoped_lock lock(mutex_);
    return failure_.empty() ? absl::OkStatus() : absl::InternalError(failure_);
  }

  const uint64_t began_ns_;
  std::atomic<bool> may_change_{true};
  EventHistory history_;
  std::mutex mutex_;
  std::condition_variable resumed_;
  bool hangs_ = false;
  std::string failure_;  // of a reload, a release
  StatusFields status_;
  PageAdmin admin_{{.may_change = [this](const OperatorPeer&) { return may_change_.load(); },
                    .reload = [this] { return Reload(); },
                    .release = [this](const std::string& driver) { return Release(driver); },
                    .used =
                        [this](const std::string& text) {
                          DriverEvent event = DriverEvent::Of(DriverEventKind::kPageUsed);
                          event.text = text;
                          history_.Add(event, WallClockUs());
                        }}};
};

int Main(const std::string& port) {
  ScriptedService service;
  const auto server = MetricsServer::Listen("127.0.0.1:" + port, service.Sources());
  if (!server.ok()) {
    std::cerr << server.status() << "\n";
    return 1;
  }
  std::cout << (*server)->port() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "link") {
      std::cout << service.Link() << std::endl;
    } else {
      std::cout << (service.Command(line) ? "ok" : "what?") << std::endl;
    }
  }
  service.Command("calls 0");  // no request waits any more
  return 0;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) { return bulkhead::Main(argc > 1 ? argv[1] : "0"); }
