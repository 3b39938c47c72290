// SPDX-License-Identifier: Apache-2.0
#include "host/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

namespace bulkhead {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr auto kAtMost = Report::Relation::kAtMost;
constexpr auto kAtLeast = Report::Relation::kAtLeast;

TEST(ReportTest, JsonHasTheDocumentedShape) {
  Report report("bench ipc");
  report.AddFigure("rtt_p50", 117.5, "ns", 150, kAtMost);
  report.AddFigure("survived", 3, "crashes", 3, kAtLeast);
  report.AddInfo("calls", 1000, "calls");
  report.SetDetail("kernel", "6.1");
  EXPECT_EQ(report.ToJson().dump(),
            R"({"schema":1,"command":"bench ipc","figures":[)"
            R"({"name":"rtt_p50","value":117.5,"unit":"ns",)"
            R"("limit":150,"relation":"<=","pass":true},)"
            R"({"name":"survived","value":3,"unit":"crashes",)"
            R"("limit":3,"relation":">=","pass":true},)"
            R"({"name":"calls","value":1000,"unit":"calls",)"
            R"("limit":null,"relation":null,"pass":true}],"kernel":"6.1"})");
}

TEST(ReportTest, LimitIsInclusiveOnBothSides) {
  Report report("test");
  report.AddFigure("at", 10, "ms", 10, kAtMost);
  report.AddFigure("over", 10.001, "ms", 10, kAtMost);
  report.AddFigure("at", 10, "ms", 10, kAtLeast);
  report.AddFigure("under", 9.999, "ms", 10, kAtLeast);
  EXPECT_TRUE(report.figures()[0].pass());
  EXPECT_FALSE(report.figures()[1].pass());
  EXPECT_TRUE(report.figures()[2].pass());
  EXPECT_FALSE(report.figures()[3].pass());
}

TEST(ReportTest, OneMissMakesTheExitCode) {
  Report report("test");
  report.AddFigure("lost", 0, "calls", 0, kAtMost);
  EXPECT_EQ(report.ExitCode(), 0);
  report.AddFigure("late", 1, "calls", 0, kAtMost);
  EXPECT_EQ(report.ExitCode(), 1);
}

TEST(ReportTest, ReportWithoutFiguresIsNotOk) { EXPECT_FALSE(Report("test").ok()); }

TEST(ReportTest, ValueThatWasNotMeasuredNeverPasses) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  Report report("test");
  report.AddInfo("nothing", kNan, "ns");
  report.AddFigure("infinite", std::numeric_limits<double>::infinity(), "ns", 1, kAtLeast);
  EXPECT_FALSE(report.figures()[0].pass());
  EXPECT_FALSE(report.figures()[1].pass());
  EXPECT_TRUE(report.ToJson()["figures"][0]["value"].is_null());
}

TEST(ReportTest, LargeCountsStayExact) {
  Report report("test");
  report.AddInfo("calls", 10'000'000'001, "calls");
  EXPECT_THAT(report.ToJson().dump(), HasSubstr(R"("value":10000000001,)"));
}

TEST(ReportTest, TableIsAlignedAndNamesTheMiss) {
  Report report("test");
  report.AddFigure("lost", 0, "calls", 0, kAtMost);
  report.AddFigure("recovery_p50", 12.345, "ms", 10, kAtMost);
  report.AddInfo("opens", 100000, "opens");
  std::ostringstream out;
  report.PrintTable(out);
  EXPECT_EQ(out.str(),
            "figure         value  unit   limit\n"
            "lost               0  calls  <= 0   ok\n"
            "recovery_p50   12.35  ms     <= 10  MISSED\n"
            "opens         100000  opens\n");
}

TEST(ReportDeathTest, DetailMayNotReplaceTheFigures) {
  Report report("test");
  EXPECT_DEATH(report.SetDetail("figures", json::array()), "may not replace");
}

class ReportFileTest : public ::testing::Test {
 protected:
  ReportFileTest() {
    std::string name = ::testing::TempDir() + "/report_test.XXXXXX";
    folder_ = mkdtemp(name.data());
    report_.AddFigure("lost", 0, "calls", 0, kAtMost);
  }
  ~ReportFileTest() override { std::filesystem::remove_all(folder_); }

  size_t FilesInFolder() const {
    const std::filesystem::directory_iterator begin(folder_);
    return static_cast<size_t>(std::distance(begin, std::filesystem::directory_iterator()));
  }

  std::filesystem::path folder_;
  Report report_{"test"};
};

TEST_F(ReportFileTest, WrittenFileReadsBack) {
  const std::string path = folder_ / "report.json";
  report_.SetDetail("path", "not UTF-8: \xff");
  ASSERT_TRUE(report_.WriteJson(path).ok());
  const json parsed = json::parse(std::ifstream(path));
  EXPECT_EQ(parsed["figures"][0]["name"], "lost");
  EXPECT_EQ(FilesInFolder(), 1u);
}

TEST_F(ReportFileTest, ReplacesAnOlderReportAndKeepsItsMode) {
  const std::filesystem::path path = folder_ / "report.json";
  std::ofstream(path) << "old";
  std::filesystem::permissions(path, std::filesystem::perms::owner_read);
  ASSERT_TRUE(report_.WriteJson(path).ok());
  EXPECT_EQ(json::parse(std::ifstream(path))["schema"], 1);
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms::owner_read);
}

TEST_F(ReportFileTest, MissingFolderIsAnErrorThatNamesThePath) {
  const absl::Status status = report_.WriteJson(folder_ / "missing" / "report.json");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("missing/report.json"));
}

TEST_F(ReportFileTest, FolderInPlaceOfTheFileIsAnErrorAndLeavesNothing) {
  std::filesystem::create_directory(folder_ / "report.json");
  EXPECT_FALSE(report_.WriteJson(folder_ / "report.json").ok());
  EXPECT_EQ(FilesInFolder(), 1u);
}

TEST_F(ReportFileTest, DeviceIsWrittenInPlace) {
  EXPECT_TRUE(report_.WriteJson("/dev/null").ok());
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(ReportFullDiskTest, DeviceThatIsFullSaysSo) {
  Report report("test");
  const absl::Status status = report.WriteJson("/dev/full");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("disk is full"));
}

}  // namespace
}  // namespace bulkhead
