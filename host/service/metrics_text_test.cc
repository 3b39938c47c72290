// SPDX-License-Identifier: Apache-2.0
#include "host/service/metrics_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "ipc/statistics.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

StatusFields Status() {
  StatusFields status;
  status.pid = static_cast<uint32_t>(getpid());
  status.attachment = "fanotify";
  status.guards = {
      {.folder = "/a \"b\"\\c\nd", .protection = {BH_PROTECTION_DEGRADED, {"why"}}, .losses = 2}};
  DriverStatusFields driver;
  driver.name = "scanner";
  driver.state = "serving";
  driver.restarts = 4;
  uint64_t number = 1;
  for (uint64_t& word : WordsOf(driver.statistics)) word = number++;
  driver.mode = BH_MODE_AUDIT;
  status.drivers = {driver};
  status.counters = {{.name = "events", .value = 9}};
  return status;
}

// Of each sample.
std::map<std::string, double> Samples(const std::string& text) {
  std::map<std::string, double> samples;
  std::istringstream lines(text);
  const std::regex sample(R"(^(bulkhead_[a-z_]+(\{.*\})?) (\S+)$)");
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    std::smatch parts;
    EXPECT_TRUE(std::regex_match(line, parts, sample)) << line;
    EXPECT_TRUE(samples.emplace(parts[1], std::stod(parts[3])).second) << "twice: " << line;
  }
  return samples;
}

TEST(MetricsText, EachNumberOfTheStatusIsThere) {
  const std::map<std::string, double> samples = Samples(MetricsText(Status(), {{"Ended", 3}}));
  const auto value = [&](const std::string& name) {
    const auto found = samples.find("bulkhead_" + name);
    return found == samples.end() ? -1 : found->second;
  };
  EXPECT_EQ(value(R"(guard_protection{folder="/a \"b\"\\c\nd"})"), BH_PROTECTION_DEGRADED);
  EXPECT_EQ(value(R"(guard_losses_total{folder="/a \"b\"\\c\nd"})"), 2);
  EXPECT_EQ(value(R"(driver_audited{driver="scanner"})"), 1);
  EXPECT_EQ(value(R"(guard_audited{folder="/a \"b\"\\c\nd"})"), 0);
  EXPECT_EQ(value(R"(driver_serving{driver="scanner"})"), 1);
  EXPECT_EQ(value(R"(driver_restarts_total{driver="scanner"})"), 4);
  EXPECT_EQ(value(R"(calls_started_total{driver="scanner"})"), 1);
  EXPECT_EQ(value(R"(events_total{event="Ended"})"), 3);
  EXPECT_EQ(value(R"(attachment_counts{name="events"})"), 9);
  EXPECT_GT(value(R"(process_resident_bytes{process="service"})"), 0);
  // A row of statistics.def that is not shown would be missed here.
  std::multiset<double> shown;
  for (const auto& [name, number] : samples) shown.insert(number);
  const StatusFields status = Status();
  for (const StatisticRow& row : kStatistics) {
    if (row.group == StatisticGroup::STATE || row.group == StatisticGroup::LATENCY) continue;
    for (uint32_t part = 0; part < row.count; ++part) {
      EXPECT_EQ(shown.count(static_cast<double>(
                    WordsOf(status.drivers[0].statistics)[row.first + part])) >= 1,
                true)
          << row.name;
    }
  }
}

TEST(MetricsText, EachCallThatStartedHasEndedOrIsOpen) {
  StatusFields status = Status();
  bh_statistics& statistics = status.drivers[0].statistics;
  statistics.calls = 1'000'000;
  double ended = 0, open = 0, started = 0;
  for (const auto& [name, number] : Samples(MetricsText(status, {}))) {
    if (name.starts_with("bulkhead_calls_ended_total")) ended += number;
    if (name.starts_with("bulkhead_calls_open")) open += number;
    if (name.starts_with("bulkhead_calls_started_total")) started += number;
  }
  EXPECT_EQ(started, 1'000'000);
  EXPECT_EQ(ended + open, started);
  EXPECT_GT(ended, 0);
}

TEST(MetricsText, TimesOfCallsAreAHistogram) {
  StatusFields status = Status();
  bh_statistics& statistics = status.drivers[0].statistics;
  std::fill(std::begin(statistics.took), std::end(statistics.took), 0);
  statistics.took[0] = 5;
  statistics.took[10] = 2;
  statistics.took[BH_LATENCY_COUNT - 1] = 1;
  statistics.took_ns = 20'000'000'000;
  const std::map<std::string, double> samples = Samples(MetricsText(status, {}));
  const auto bucket = [&](const std::string& bound) {
    const auto found =
        samples.find(R"(bulkhead_call_seconds_bucket{driver="scanner",le=")" + bound + R"("})");
    return found == samples.end() ? -1 : found->second;
  };
  EXPECT_EQ(bucket("1.024e-06"), 5);
  EXPECT_EQ(bucket("0.000524288"), 5);
  EXPECT_EQ(bucket("0.00104858"), 7);
  EXPECT_EQ(bucket("17.1799"), 7);
  EXPECT_EQ(bucket("+Inf"), 8);
  EXPECT_EQ(samples.at(R"(bulkhead_call_seconds_count{driver="scanner"})"), 8);
  EXPECT_EQ(samples.at(R"(bulkhead_call_seconds_sum{driver="scanner"})"), 20);
}

TEST(MetricsText, ANumberThatIsNotWholeHasAllItsDigits) {
  StatusFields status = Status();
  status.uptime_ms = 12'345'678'901;
  EXPECT_THAT(MetricsText(status, {}), HasSubstr("bulkhead_uptime_seconds 12345678.901\n"));
}

TEST(MetricsText, EachNameHasItsTypeAboveItsSamples) {
  std::istringstream lines(MetricsText(Status(), {}));
  std::set<std::string> known;
  std::string last;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, kind, name;
    words >> hash >> kind >> name;
    if (kind == "TYPE") {
      EXPECT_TRUE(known.insert(name).second) << name << " has two types";
      last = name;
    } else if (hash != "#") {
      const std::string sample = line.substr(0, line.find_first_of("{ "));
      const bool histogram = last == "bulkhead_call_seconds";
      EXPECT_TRUE(histogram ? sample.starts_with(last + "_") : sample == last) << line;
    }
  }
  EXPECT_GT(known.size(), 20u);
}

}  // namespace
}  // namespace bulkhead
