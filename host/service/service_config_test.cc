// SPDX-License-Identifier: Apache-2.0
#include "host/service/service_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

ServiceConfig Good() {
  ServiceConfig config;
  config.drivers = {{.driver = "scanner"}, {.driver = "null"}};
  config.guards = {{.folder = "/"}};
  return config;
}

TEST(ServiceConfig, TheDefaultsOfADriverAndAGuardAreRight) {
  const absl::Status status = CheckConfig(Good());
  EXPECT_TRUE(status.ok()) << status;
}

TEST(ServiceConfig, EachMistakeNamesItsFieldAndItsValue) {
  const struct {
    std::function<void(ServiceConfig&)> make;
    const char* field;
    const char* value;
  } kMistakes[] = {
      {[](ServiceConfig& config) { config.drivers.clear(); }, "--driver", "none"},
      {[](ServiceConfig& config) { config.drivers[0].driver = ""; }, "--driver", "''"},
      {[](ServiceConfig& config) { config.drivers[1].driver = "scanner"; }, "--driver",
       "'scanner' is given twice"},
      {[](ServiceConfig& config) {
         for (int i = 0; i < 7; ++i) config.drivers.push_back({.driver = std::to_string(i)});
       },
       "--driver", "9 drivers"},
      {[](ServiceConfig& config) { config.drivers[0].content_folder = "/no/rules"; }, "--content",
       "'/no/rules'"},
      {[](ServiceConfig& config) { config.drivers[0].cache_entries = 1000; }, "--cache", "1000"},
      {[](ServiceConfig& config) { config.drivers[0].cache_entries = 1u << 31; }, "--cache",
       "2147483648"},
      {[](ServiceConfig& config) { config.drivers[0].spin_us = 10'001; }, "--spin", "10001"},
      {[](ServiceConfig& config) { config.drivers[1].policy.rule[0][0].action = 200; }, "--policy",
       "'null'"},
      {[](ServiceConfig& config) { config.guards[0].folder = "/no/folder"; }, "--guard",
       "/no/folder"},
      {[](ServiceConfig& config) { config.guards.push_back(config.guards[0]); }, "--guard",
       "'/' is given twice"},
      {[](ServiceConfig& config) { config.guards[0].deadline_ns = 0; }, "--deadline", "0"},
  };
  for (const auto& mistake : kMistakes) {
    ServiceConfig config = Good();
    mistake.make(config);
    const absl::Status status = CheckConfig(config, "--");
    EXPECT_FALSE(status.ok()) << mistake.field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(mistake.field));
    EXPECT_THAT(std::string(status.message()), HasSubstr(mistake.value));
  }
}

TEST(ServiceConfig, NeedsWhatAnyOfItsGuardsNeeds) {
  ServiceConfig config = Good();
  config.guards.push_back({.folder = "/tmp", .filter = {.owner = 7}});
  uint32_t needed = 0;
  for (const Need& need : NeedsOf(config)) needed |= need.capability;
  EXPECT_EQ(needed, kGuardsFolders | kFiltersByOwner);
  config.guards.clear();
  EXPECT_TRUE(NeedsOf(config).empty()) << "without guards any attachment will do";
}

}  // namespace
}  // namespace bulkhead
