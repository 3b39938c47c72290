// SPDX-License-Identifier: Apache-2.0
#include "host/cli/top_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::SizeIs;

StatusFields Instance(uint32_t pid, uint64_t calls) {
  StatusFields status;
  status.pid = pid;
  status.attachment = "fanotify";
  status.uptime_ms = 3'723'000;
  status.guards = {{.folder = "/srv/uploads", .protection = {BH_PROTECTION_FULL, {}}}};
  DriverStatusFields driver;
  driver.name = "scanner";
  driver.state = "serving";
  driver.generation = 3;
  driver.restarts = 2;
  driver.protection = {BH_PROTECTION_FULL, {}};
  driver.statistics.calls = calls;
  driver.statistics.denied = calls / 10;
  driver.statistics.took[5] = calls;
  status.drivers = {driver};
  return status;
}

std::string TextOf(const std::vector<TopLine>& lines) {
  std::string text;
  for (const TopLine& line : lines) text += line.text + "\n";
  return text;
}

EventFields Event(const std::string& line) {
  return {.at_us = 1'700'000'000'000'000, .level = wire::LogLevel::Warning, .line = line};
}

TEST(TopScreen, ShowsRatesSinceTheLookBefore) {
  TopScreen screen;
  screen.Add({Instance(7, 1000)}, {}, kNanosecondsPerSecond);
  EXPECT_THAT(TextOf(screen.Lines(24, 80)), ContainsRegex("scanner +serving +0 +0 +0 +- +2  full"));
  screen.Add({Instance(7, 41'000)}, {}, 3 * kNanosecondsPerSecond);
  const std::string text = TextOf(screen.Lines(24, 80));
  EXPECT_THAT(text, HasSubstr("pid 7  fanotify  up 1:02:03  protection full"));
  EXPECT_THAT(text, ContainsRegex("scanner +serving +20.0k +2000 +0 +<33us +2  full"));
  screen.Add({Instance(7, 0)}, {}, 4 * kNanosecondsPerSecond);
  EXPECT_THAT(TextOf(screen.Lines(24, 80)), ContainsRegex("serving +0 +0 +0 +- "))
      << "its counts began anew";
}

TEST(TopScreen, WhatIsAuditedIsSaidFirst) {
  TopScreen screen;
  StatusFields status = Instance(7, 1000);
  status.drivers[0].mode = BH_MODE_AUDIT;
  status.drivers[0].protection = {BH_PROTECTION_DEGRADED, {"audit: why"}};
  status.guards[0].mode = BH_MODE_AUDIT;
  screen.Add({status}, {}, kNanosecondsPerSecond);
  status.drivers[0].statistics.would_deny = 50;
  screen.Add({status}, {}, 2 * kNanosecondsPerSecond);
  const std::string text = TextOf(screen.Lines(24, 120));
  EXPECT_THAT(text, ContainsRegex("scanner +serving +0 +50 +0 +- +2  AUDIT, degraded: audit: why"));
  EXPECT_THAT(text, HasSubstr("guards /srv/uploads: AUDIT, full"));
}

TEST(TopScreen, NoLineIsWiderAndNoScreenHigherThanTheTerminal) {
  TopScreen screen;
  std::vector<StatusFields> instances;
  for (uint32_t pid = 1; pid <= 20; ++pid) {
    instances.push_back(Instance(pid, 1));
    instances.back().guards[0].folder = "/" + std::string(300, 'f') + "\xc3\xa4";
    instances.back().guards[0].protection = {BH_PROTECTION_DEGRADED, {std::string(300, 'r')}};
  }
  screen.Add(instances, {{"99", std::string(300, 's')}}, 1);
  for (int i = 0; i < 1000; ++i) screen.Add(Event(std::string(300, 'e')));
  for (const size_t rows : {0u, 1u, 2u, 5u, 6u, 24u, 50u, 200u}) {
    for (const size_t columns : {1u, 20u, 80u, 500u}) {
      const std::vector<TopLine> lines = screen.Lines(rows, columns);
      EXPECT_LE(lines.size(), rows);
      for (const TopLine& line : lines) EXPECT_LE(line.text.size(), columns);
    }
  }
}

TEST(TopScreen, TheLeastProtectedComesFirst) {
  TopScreen screen;
  StatusFields bad = Instance(8, 1);
  bad.guards.push_back({.folder = "/gone", .protection = {BH_PROTECTION_NONE, {"moved away"}}});
  screen.Add({Instance(7, 1), bad}, {}, 1);
  const std::vector<TopLine> lines = screen.Lines(24, 80);
  EXPECT_THAT(lines[0].text, HasSubstr("pid 8"));
  EXPECT_EQ(lines[0].style, TopStyle::kBad);
  EXPECT_EQ(lines[3].text, "  guards /gone: none: moved away");
  EXPECT_EQ(lines[3].style, TopStyle::kBad);
}

TEST(TopScreen, TheNewestEventsFillTheRest) {
  TopScreen screen;
  screen.Add({Instance(7, 1)}, {}, 1);
  for (int i = 0; i < 100; ++i) screen.Add(Event("event " + std::to_string(i) + "\x1b[2J"));
  const std::vector<TopLine> lines = screen.Lines(10, 80);
  ASSERT_THAT(lines, SizeIs(10));
  EXPECT_EQ(lines.back().text, "22:13:20 event 99?[2J");
  EXPECT_EQ(lines.back().style, TopStyle::kWarning);
}

TEST(TopScreen, NothingThatRunsIsSaidSo) {
  TopScreen screen;
  EXPECT_THAT(TextOf(screen.Lines(24, 80)), HasSubstr("no instance"));
  screen.Add({}, {{"42", "timed out"}}, 1);
  EXPECT_EQ(TextOf(screen.Lines(24, 80)), "instance 42 does not answer: timed out\n");
}

}  // namespace
}  // namespace bulkhead
