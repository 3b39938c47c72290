// SPDX-License-Identifier: Apache-2.0
//
// A driver, or a guard, that is watched before it decides: what it denies is told, and goes on;
// until a reload enforces it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ipc/monotonic.h"
#include "tests/testing/daemon_fixture.h"
#include "tests/testing/send_signal.h"

namespace bulkhead {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Audit : public Daemon {
 protected:
  std::string InMode(const std::string& mode) const { return "mode = '" + mode + "'\n"; }
  std::string DenyForAllReasons() const {
    std::string rules;
    for (const char* reason :
         {"absent", "crashed", "hung", "full", "poison", "declined", "overdue", "crowd"}) {
      rules += std::string("policy.") + reason + " = 'deny'\n";
    }
    return rules;
  }
  json Status() {
    const json status = json::parse(Run("status --json -").text, nullptr, false);
    EXPECT_TRUE(status.is_object());
    for (const json& running : status["running"]) {
      if (" --pid " + std::to_string(running["pid"].get<int>()) == pid_) return running;
    }
    ADD_FAILURE() << "not in the status: " << status;
    return {};
  }
  json DriverStatus() { return Status()["drivers"][0]; }
  // The status once it says so, or the last one when it does not in time.
  json DriverInMode(const std::string& mode) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    json driver = DriverStatus();
    while (driver["mode"] != mode && MonotonicNowNs() < until_ns) driver = DriverStatus();
    return driver;
  }
  std::vector<json> EventsOf(const std::string& kind) {
    std::vector<json> events;
    for (const json& event : Events()) {
      if (event.value("event", "") == kind) events.push_back(event);
    }
    return events;
  }
  // Events of this kind, as soon as there are so many: they are told behind the access.
  std::vector<json> Await(const std::string& kind, size_t count) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    std::vector<json> events = EventsOf(kind);
    while (events.size() < count && MonotonicNowNs() < until_ns) events = EventsOf(kind);
    return events;
  }
  void Reload(const std::string& text) {
    Write(text);
    const Outcome reload = Run("reload" + pid_);
    ASSERT_EQ(reload.code, 0) << reload.text;
  }
};

TEST_F(Audit, ADriverDeniesNothingAndItsEventsHaveWhatItWouldHave) {
  Write(Scanner() + InMode("audit") + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  const std::string infected = files_ + "/infected";
  EXPECT_TRUE(Opens(infected));
  EXPECT_TRUE(Opens(files_ + "/clean"));

  const std::vector<json> events = Await("WouldDeny", 1);
  ASSERT_EQ(events.size(), 1u);
  const json& event = events[0];
  EXPECT_EQ(event["driver"], "scanner");
  EXPECT_EQ(event["mode"], "audit");
  EXPECT_EQ(event["audited"], "driver");
  EXPECT_EQ(event["callback"], "file_open");
  EXPECT_EQ(event["denied_by"], "driver");
  EXPECT_THAT(event.value("rule", ""), HasSubstr("eicar"));
  struct stat object = {};
  ASSERT_EQ(stat(infected.c_str(), &object), 0);
  EXPECT_EQ(event["object"]["path"], infected);
  EXPECT_EQ(event["object"]["device"], object.st_dev);
  EXPECT_EQ(event["object"]["inode"], object.st_ino);
  EXPECT_EQ(event["caller"]["pid"], getpid());
  EXPECT_EQ(event["caller"]["uid"], geteuid());
  EXPECT_EQ(event["caller"]["comm"], "audit_test");
  EXPECT_THAT(event["caller"].value("exe", ""), HasSubstr("audit_test"));
  EXPECT_THAT(Run("events" + pid_).text,
              HasSubstr("audit: would have denied file_open of " + infected));

  const json driver = DriverStatus();
  EXPECT_EQ(driver["mode"], "audit");
  EXPECT_EQ(driver["protection"], "degraded");
  EXPECT_THAT(driver["reasons"][0].get<std::string>(), HasSubstr("audit: "));
  EXPECT_EQ(driver["counters"]["would_deny"], 1);
  EXPECT_EQ(driver["counters"]["denied"], 0);
  const json guard = Status()["guards"][0];
  EXPECT_EQ(guard["mode"], "enforce");
  EXPECT_NE(guard["protection"], "full") << "its only driver denies nothing";
  const Outcome check = Run("status --check");
  EXPECT_EQ(check.code, 1);
  EXPECT_THAT(check.text, HasSubstr("mode audit, protection degraded"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Audit, AReloadEnforcesAtOnceAlsoWhatWasOpenedDuringTheAudit) {
  const std::string cached = Scanner() + "cache = 64\n";
  Write(cached + InMode("audit") + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  const std::string infected = files_ + "/infected";
  EXPECT_TRUE(Opens(infected));
  EXPECT_TRUE(Opens(infected)) << "from the cache, which has the denial";
  Reload(cached + InMode("enforce") + GuardOf(files_));
  EXPECT_FALSE(Opens(infected));
  EXPECT_THAT(TextOf("Reloaded"), HasSubstr("the mode of scanner is enforce"));
  EXPECT_EQ(Await("Denied", 1).size(), 1u);
  EXPECT_EQ(Await("Denied", 1)[0]["mode"], "enforce");
  EXPECT_EQ(DriverInMode("enforce")["protection"], "full");

  Reload(cached + InMode("audit") + GuardOf(files_));
  EXPECT_TRUE(Opens(infected));
  EXPECT_EQ(DriverInMode("audit")["protection"], "degraded");
  Reload(cached + GuardOf(files_));
  EXPECT_FALSE(Opens(infected)) << "what is not said is enforced";
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Audit, ADriverThatHangsOrIsKilledDeniesNothing) {
  Write(Scanner() + InMode("audit") + DenyForAllReasons() + GuardOf(files_) +
        "deadline = '300ms'\n");
  ASSERT_GT(Start(), 0);
  const pid_t host = DriverStatus()["pid"].get<pid_t>();
  ASSERT_GT(host, 0);
  ASSERT_EQ(SendSignal(host, SIGSTOP), 0);
  EXPECT_TRUE(Opens(files_ + "/clean")) << "no answer by the deadline";
  const std::vector<json> events = Await("WouldDeny", 1);
  ASSERT_GE(events.size(), 1u);
  EXPECT_EQ(events[0]["denied_by"], "policy");
  EXPECT_EQ(events[0]["audited"], "driver");
  EXPECT_EQ(events[0]["object"]["path"], files_ + "/clean");
  SendSignal(host, SIGKILL);
  for (int i = 0; i < 20; ++i) {
    const json pid = DriverStatus()["pid"];
    if (!pid.is_null()) SendSignal(pid.get<pid_t>(), SIGKILL);
    EXPECT_TRUE(Opens(files_ + "/clean")) << i;
    EXPECT_TRUE(Opens(files_ + "/infected")) << i;
  }
  EXPECT_EQ(DriverStatus()["counters"]["denied"], 0);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Audit, AGuardIsAuditedByItself) {
  const std::string inner = files_ + "/inner";
  std::filesystem::create_directory(inner);
  std::filesystem::copy(files_ + "/infected", inner + "/infected");
  const auto config = [&](const char* outer_mode, const char* more_mode, const char* inner_mode) {
    return Scanner() + GuardOf(files_) + InMode(outer_mode) + GuardOf(more_) + InMode(more_mode) +
           GuardOf(inner) + InMode(inner_mode);
  };
  Write(config("audit", "enforce", "enforce"));
  ASSERT_GT(Start(), 0);
  EXPECT_TRUE(Opens(files_ + "/infected"));
  EXPECT_FALSE(Opens(more_ + "/infected"));
  EXPECT_FALSE(Opens(inner + "/infected")) << "an enforced guard covers it, too";
  const std::vector<json> would = Await("WouldDeny", 1);
  ASSERT_GE(would.size(), 1u);
  EXPECT_EQ(would[0]["audited"], "guard");
  const json status = Status();
  for (const json& guard : status["guards"]) {
    const bool audited = guard["folder"] == files_;
    EXPECT_EQ(guard["mode"], audited ? "audit" : "enforce");
    if (!audited) continue;
    EXPECT_EQ(guard["protection"], "degraded");
    EXPECT_THAT(guard["reasons"][0].get<std::string>(), HasSubstr("audit: "));
  }
  EXPECT_EQ(DriverStatus()["mode"], "enforce");

  // One of two that share the kernel's groups changes; then they are as they were.
  Reload(config("audit", "audit", "enforce"));
  EXPECT_TRUE(Opens(files_ + "/infected"));
  EXPECT_TRUE(Opens(more_ + "/infected"));
  EXPECT_FALSE(Opens(inner + "/infected"));
  EXPECT_THAT(TextOf("Reloaded"), HasSubstr("the mode of the guard of " + more_ + " is audit"));
  Reload(config("audit", "audit", "audit"));
  EXPECT_TRUE(Opens(inner + "/infected"));
  Reload(config("enforce", "audit", "audit"));
  EXPECT_FALSE(Opens(files_ + "/infected"));
  EXPECT_FALSE(Opens(inner + "/infected")) << "the outer guard covers it, too";
  EXPECT_TRUE(Opens(more_ + "/infected"));
  Reload(config("enforce", "enforce", "enforce"));
  for (const std::string& folder : {files_, more_, inner})
    EXPECT_FALSE(Opens(folder + "/infected"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Audit, OfAFloodEachIsCountedAndFewAreTold) {
  Write(Scanner() + InMode("audit") + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  constexpr uint64_t kFlood = 1500;
  for (uint64_t i = 0; i < kFlood; ++i) ASSERT_TRUE(Opens(files_ + "/infected"));
  json counters = DriverStatus()["counters"];
  EXPECT_EQ(counters["would_deny"], kFlood);
  const uint64_t unrecorded = counters["unrecorded"].get<uint64_t>();
  EXPECT_GT(unrecorded, 0u);
  // Exactly: what has no event is counted.
  EXPECT_EQ(Await("WouldDeny", kFlood - unrecorded).size(), kFlood - unrecorded);
  const std::vector<json> told = Await("DenialsUnrecorded", 1);
  ASSERT_GE(told.size(), 1u);
  EXPECT_GT(told[0]["number"].get<uint64_t>(), 0u);
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Audit, RunHasAnOptionForIt) {
  ASSERT_GT(StartService("--driver scanner --guard " + files_ + " --audit"), 0);
  EXPECT_TRUE(Opens(files_ + "/infected"));
  EXPECT_THAT(Run("status").text, HasSubstr("mode audit, protection degraded"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Audit, AModeThatIsNoneIsRefused) {
  Write(Scanner() + InMode("adit") + GuardOf(files_) + InMode("off"));
  const Outcome check = Run("check-config " + config_);
  EXPECT_EQ(check.code, 1);
  EXPECT_THAT(check.text,
              HasSubstr("mode: 'adit' is not one of enforce, audit; did you mean \"audit\"?"));
  EXPECT_THAT(check.text, HasSubstr("mode: 'off' is not one of enforce, audit"));
}

}  // namespace
}  // namespace bulkhead
