// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/daemon_fixture.h"

#include <nlohmann/json.hpp>
#include <sstream>

namespace bulkhead {

std::vector<nlohmann::json> Daemon::Events() {
  std::istringstream lines(Run("events --json" + pid_).text);
  std::vector<nlohmann::json> events;
  for (std::string line; std::getline(lines, line);) {
    events.push_back(nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false));
    EXPECT_TRUE(events.back().is_object()) << line;
  }
  return events;
}

std::string Daemon::TextOf(const std::string& kind) {
  std::string text = "none";
  for (const nlohmann::json& event : Events()) {
    if (event.value("event", "") == kind) text = event.value("text", "");
  }
  return text;
}

}  // namespace bulkhead
