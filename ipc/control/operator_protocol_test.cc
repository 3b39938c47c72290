// SPDX-License-Identifier: Apache-2.0
#include "ipc/control/operator_protocol.h"

#include <string>

#include "gtest/gtest.h"
#include "ipc/statistics.h"
#include "tests/testing/control_messages.h"

namespace bulkhead {
namespace {

TEST(OperatorProtocol, StatusSurvivesTheTrip) {
  StatusFields fields;
  fields.pid = 11;
  fields.attachment = "fanotify";
  fields.guards = {{.folder = "/srv/a", .protection = {BH_PROTECTION_FULL, {}}},
                   {.folder = "/srv/b",
                    .protection = {BH_PROTECTION_DEGRADED, {"one", "two"}},
                    .losses = 3,
                    .mode = BH_MODE_AUDIT}};
  fields.counters = {{.name = "events", .value = 8}, {.name = "filtered", .value = 7}};
  DriverStatusFields driver;
  driver.name = "scanner";
  driver.state = "serving";
  driver.restarts = 4;
  driver.protection = {BH_PROTECTION_NONE, {"quarantined"}};
  driver.content_loading = 7;
  driver.sandbox_layers = BH_LAYER_FILES | BH_LAYER_LIMITS;
  driver.sandbox_lacks = {"resources: none here"};
  driver.sandbox_us = 4321;
  driver.mode = BH_MODE_AUDIT;
  // Each counter with a value of its own.
  uint64_t number = 0;
  for (uint64_t& word : WordsOf(driver.statistics)) word = ++number;
  fields.drivers = {driver, driver};
  const ControlBuffer buffer = MakeStatus(fields);
  const StatusFields read = ReadStatus(Body<wire::Status>(buffer));
  ASSERT_EQ(read.counters.size(), 2u);
  EXPECT_EQ(read.counters[1].name, "filtered");
  EXPECT_EQ(read.counters[1].value, 7u);
  EXPECT_EQ(read.pid, 11u);
  EXPECT_EQ(read.attachment, "fanotify");
  ASSERT_EQ(read.guards.size(), 2u);
  EXPECT_EQ(read.guards[0].folder, "/srv/a");
  EXPECT_EQ(read.guards[0].protection.level, BH_PROTECTION_FULL);
  EXPECT_EQ(read.guards[1].protection.level, BH_PROTECTION_DEGRADED);
  EXPECT_EQ(read.guards[1].protection.reasons, fields.guards[1].protection.reasons);
  EXPECT_EQ(read.guards[1].losses, 3u);
  EXPECT_EQ(read.guards[0].mode, BH_MODE_ENFORCE);
  EXPECT_EQ(read.guards[1].mode, BH_MODE_AUDIT);
  ASSERT_EQ(read.drivers.size(), 2u);
  EXPECT_EQ(read.drivers[1].mode, BH_MODE_AUDIT);
  EXPECT_EQ(read.drivers[1].restarts, 4u);
  EXPECT_EQ(WordsOf(read.drivers[1].statistics), WordsOf(driver.statistics));
  EXPECT_EQ(read.drivers[1].protection.level, BH_PROTECTION_NONE);
  EXPECT_EQ(read.drivers[1].protection.reasons, driver.protection.reasons);
  EXPECT_EQ(read.drivers[1].content_loading, 7u);
  EXPECT_EQ(read.drivers[1].sandbox_layers, uint32_t{BH_LAYER_FILES | BH_LAYER_LIMITS});
  EXPECT_EQ(read.drivers[1].sandbox_lacks, driver.sandbox_lacks);
  EXPECT_EQ(read.drivers[1].sandbox_us, 4321u);
}

TEST(OperatorProtocol, TheLargestStatusFitsADatagram) {
  StatusFields fields;
  fields.attachment = std::string(100'000, 'x');
  const std::vector<std::string> reasons(100, std::string(1'000, 'x'));
  fields.guards.assign(
      100, {.folder = std::string(100'000, 'x'), .protection = {BH_PROTECTION_DEGRADED, reasons}});
  DriverStatusFields driver;
  driver.name = driver.version = driver.state = driver.content_path = driver.last_end =
      std::string(100'000, 'x');
  driver.protection = {BH_PROTECTION_DEGRADED, reasons};
  fields.counters.assign(100, {.name = std::string(100'000, 'x'), .value = 1});
  fields.drivers.assign(100, driver);
  const ControlBuffer buffer = MakeStatus(fields);
  EXPECT_LE(buffer.size(), kControlBytesMax);
  EXPECT_EQ(ReadStatus(Body<wire::Status>(buffer)).drivers.size(), 8u);
}

// A monitor that reads them must not take the first ones for all.
TEST(OperatorProtocol, OfManyGuardsTheWorstAreSentAndTheRestIsCounted) {
  StatusFields fields;
  for (int i = 0; i < 1000; ++i) {
    GuardStatusFields guard;
    guard.folder = "/srv/" + std::to_string(i) + "/" + std::string(900, 'x');
    guard.protection = {i == 700   ? BH_PROTECTION_NONE
                        : i == 900 ? BH_PROTECTION_DEGRADED
                                   : BH_PROTECTION_FULL,
                        {}};
    fields.guards.push_back(guard);
  }
  const ControlBuffer buffer = MakeStatus(fields);
  const StatusFields read = ReadStatus(Body<wire::Status>(buffer));
  ASSERT_GT(read.guards.size(), 16u);
  EXPECT_EQ(read.guards[0].folder, fields.guards[700].folder);
  EXPECT_EQ(read.guards[0].protection.level, BH_PROTECTION_NONE);
  EXPECT_EQ(read.guards[1].protection.level, BH_PROTECTION_DEGRADED);
  EXPECT_EQ(read.guards.back().folder,
            "(" + std::to_string(1000 - (read.guards.size() - 1)) + " more guards)");
  fields.guards.resize(20);
  for (GuardStatusFields& guard : fields.guards) guard.folder.resize(20);
  const ControlBuffer few = MakeStatus(fields);
  const StatusFields all = ReadStatus(Body<wire::Status>(few));
  ASSERT_EQ(all.guards.size(), 20u);
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(all.guards[i].folder, fields.guards[i].folder);
}

}  // namespace
}  // namespace bulkhead
