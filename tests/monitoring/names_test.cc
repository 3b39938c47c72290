// SPDX-License-Identifier: Apache-2.0
//
// The alert rules and the dashboard of packaging/monitoring ask for nothing that the service does
// not write: names of metrics, their labels, and the values of those labels that are ours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "host/service/metrics_text.h"
#include "host/supervisor/driver_event.h"

namespace bulkhead {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Values = std::set<std::string>;
using Labels = std::map<std::string, Values>;

std::string FileText(const std::string& path) {
  const char* source = getenv("BULKHEAD_SOURCE");
  std::ostringstream text;
  text << std::ifstream(std::string(source == nullptr ? "." : source) + "/" + path).rdbuf();
  EXPECT_FALSE(text.str().empty()) << path;
  return text.str();
}

std::vector<std::smatch> All(const std::string& text, const std::regex& what) {
  return {std::sregex_iterator(text.begin(), text.end(), what), std::sregex_iterator()};
}

// Each metric that a service can write.
std::map<std::string, Labels> Written() {
  StatusFields status;
  status.pid = status.shim_pid = static_cast<uint32_t>(getpid());
  status.guards = {{.folder = "/srv", .protection = {}, .losses = 1}};
  DriverStatusFields driver;
  driver.name = "scanner";
  driver.pid = status.pid;
  status.drivers = {driver};
  status.counters = {{.name = "events", .value = 1}};
  std::map<std::string, uint64_t> events;
  for (int kind = 0; kind < kDriverEventKindCount; ++kind) {
    events[DriverEventKindName(static_cast<DriverEventKind>(kind))] = 1;
  }
  std::map<std::string, Labels> written;
  const std::string text = MetricsText(status, events);
  static const std::regex kSample(R"((?:^|\n)(bulkhead_\w+)(?:\{([^\n]*)\})? )");
  static const std::regex kLabel(R"re((\w+)="([^"]*)")re");
  for (const std::smatch& sample : All(text, kSample)) {
    Labels& labels = written[sample[1]];
    const std::string list = sample[2];
    for (const std::smatch& label : All(list, kLabel)) labels[label[1]].insert(label[2]);
  }
  return written;
}

// What is wrong with an expression and the words that show its result: "{{name}}", "$labels.name".
std::vector<std::string> Mistakes(const std::string& expression, const std::string& words) {
  static const std::map<std::string, Labels> kWritten = Written();
  static const std::regex kName(R"(\bbulkhead_\w+)");
  static const std::regex kMatcher(R"re((\w+)\s*(=~|!~|!=|=)\s*"([^"]*)")re");
  static const std::regex kBy(R"(\bby\s*\(([^)]*)\))");
  static const std::regex kWord(R"(\w+)");
  static const std::regex kShown(R"(\{\{\s*(?:\$labels\.)?(\w+)\s*\}\})");
  std::vector<std::string> mistakes;
  Labels labels = {{"instance", {}}, {"job", {}}};  // Prometheus' own
  for (const std::smatch& name : All(expression, kName)) {
    const auto found = kWritten.find(name[0]);
    if (found == kWritten.end()) {
      mistakes.push_back("no metric " + name[0].str());
    } else {
      for (const auto& [label, values] : found->second) {
        labels[label].insert(values.begin(), values.end());
      }
    }
  }
  const auto known = [&](const std::string& label) {
    if (!labels.contains(label)) mistakes.push_back("no label " + label + ": " + expression);
    return labels.contains(label);
  };
  for (const std::smatch& matcher : All(expression, kMatcher)) {
    const std::string label = matcher[1], value = matcher[3];
    const bool ours = label != "instance" && label != "job" && label != "driver";
    if (known(label) && ours && !labels[label].contains(value)) {
      mistakes.push_back(label + " is never " + value);
    }
  }
  Values kept;
  for (const std::smatch& by : All(expression, kBy)) {
    const std::string list = by[1];
    for (const std::smatch& label : All(list, kWord)) {
      if (known(label[0])) kept.insert(label[0]);
    }
  }
  for (const std::smatch& shown : All(words, kShown)) {
    if (known(shown[1]) && !kept.empty() && !kept.contains(shown[1])) {
      mistakes.push_back(shown[1].str() + " is summed up: " + expression);
    }
  }
  return mistakes;
}

TEST(Names, AMistakeIsFound) {
  EXPECT_THAT(Mistakes("bulkhead_calls_open", "{{driver}}"), IsEmpty());
  EXPECT_THAT(Mistakes("bulkhead_calls_opne", ""), Contains("no metric bulkhead_calls_opne"));
  EXPECT_THAT(Mistakes(R"(bulkhead_calls_open{folder="/"})", ""), SizeIs(1));
  EXPECT_THAT(Mistakes("bulkhead_calls_open", "{{ $labels.folder }}"), SizeIs(1));
  EXPECT_THAT(Mistakes(R"(bulkhead_calls_ended_total{outcome="lost"})", ""), SizeIs(1));
  EXPECT_THAT(Mistakes("sum by (driver) (bulkhead_calls_ended_total)", "{{reason}}"), SizeIs(1));
}

TEST(Names, OfTheAlertsAreWritten) {
  const std::string page = FileText("docs/metrics.md");
  const std::string text = FileText("packaging/monitoring/bulkhead-alerts.yml");
  const std::string cases = FileText("tests/monitoring/alerts_test.yml");
  const std::regex name(R"(- alert: (\w+)\n)");
  std::vector<std::smatch> alerts = All(text, name);
  ASSERT_GT(alerts.size(), 5u);
  for (size_t i = 0; i < alerts.size(); ++i) {
    const auto begin = static_cast<size_t>(alerts[i].position());
    const size_t end =
        i + 1 < alerts.size() ? static_cast<size_t>(alerts[i + 1].position()) : std::string::npos;
    const std::string rule = text.substr(begin, end - begin);
    const size_t labels = rule.find("        labels:");
    ASSERT_NE(labels, std::string::npos) << rule;
    EXPECT_THAT(Mistakes(rule.substr(0, labels), rule.substr(labels)), IsEmpty());
    // Its description names the command that shows more.
    EXPECT_THAT(rule, HasSubstr("`bulkhead ")) << "what is to be done?";
    EXPECT_THAT(page, HasSubstr("`" + alerts[i][1].str() + "`")) << "docs/metrics.md";
    EXPECT_THAT(cases, HasSubstr("alertname=\"" + alerts[i][1].str() + "\"")) << "alerts_test.yml";
  }
}

TEST(Names, OfTheDashboardAreWritten) {
  const auto dashboard =
      nlohmann::json::parse(FileText("packaging/monitoring/bulkhead-dashboard.json"), nullptr,
                            /*allow_exceptions=*/false);
  ASSERT_TRUE(dashboard.is_object());
  std::set<int> ids;
  std::set<std::pair<int, int>> cells;
  for (const nlohmann::json& panel : dashboard["panels"]) {
    EXPECT_TRUE(ids.insert(panel["id"].get<int>()).second) << panel["title"];
    const nlohmann::json& at = panel["gridPos"];
    EXPECT_LE(at["x"].get<int>() + at["w"].get<int>(), 24) << panel["title"];
    for (int x = at["x"]; x < at["x"].get<int>() + at["w"].get<int>(); ++x) {
      for (int y = at["y"]; y < at["y"].get<int>() + at["h"].get<int>(); ++y) {
        EXPECT_TRUE(cells.emplace(x, y).second) << panel["title"] << " lies over another";
      }
    }
    EXPECT_FALSE(panel["targets"].empty()) << panel["title"];
    for (const nlohmann::json& target : panel["targets"]) {
      EXPECT_THAT(Mistakes(target["expr"], target["legendFormat"]), IsEmpty());
      EXPECT_EQ(target["datasource"]["uid"], "${datasource}");
    }
  }
  EXPECT_GT(ids.size(), 10u);
  const std::regex values(R"(label_values\((.*), (\w+)\))");
  for (const nlohmann::json& variable : dashboard["templating"]["list"]) {
    std::smatch parts;
    const std::string query = variable.value("definition", "");
    if (query.empty()) continue;
    ASSERT_TRUE(std::regex_match(query, parts, values)) << query;
    EXPECT_THAT(Mistakes(parts[1], "{{" + parts[2].str() + "}}"), IsEmpty());
  }
}

}  // namespace
}  // namespace bulkhead
