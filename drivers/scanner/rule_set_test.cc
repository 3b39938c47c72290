// SPDX-License-Identifier: Apache-2.0
#include "rule_set.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace scanner {
namespace {

using ::testing::HasSubstr;

constexpr char kMarkerRule[] =
    "rule marker {\n  strings:\n    $a = \"find-me\"\n  condition:\n    $a\n}\n";

class RuleSetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/rule-set-" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
    std::filesystem::create_directories(Compiled());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Compiled() const { return folder_ + "/compiled"; }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }
  // Compiles the marker rule to Compiled()/rules.yarc.
  void Save() {
    Write("marker.yar", kMarkerRule);
    std::string error;
    const auto set = RuleSet::Load(folder_, &error);
    ASSERT_NE(set, nullptr) << error;
    ASSERT_TRUE(set->Save(Compiled() + "/rules.yarc", &error)) << error;
  }
  static ScanResult Scan(const RuleSet& set, const std::string& text) {
    return set.Scan(std::as_bytes(std::span(text)), std::chrono::seconds(10));
  }

  std::string folder_;
  std::string error_;
};

TEST_F(RuleSetTest, FindsWhatARuleDescribes) {
  Write("marker.yar", kMarkerRule);
  Write("notes.txt", "not a rule");
  const auto set = RuleSet::Load(folder_, &error_);
  ASSERT_NE(set, nullptr) << error_;
  EXPECT_EQ(set->files(), 1u);
  EXPECT_EQ(set->others(), std::vector<std::string>{"notes.txt"});
  EXPECT_EQ(RuleSet::Load(folder_ + "/", &error_)->others(), set->others());
  EXPECT_EQ(Scan(*set, "nothing").found, Found::kNothing);
  const ScanResult result = Scan(*set, "... find-me ...");
  EXPECT_EQ(result.found, Found::kMatch);
  EXPECT_EQ(result.rule, "marker");
}

TEST_F(RuleSetTest, StopsInTime) {
  Write("marker.yar", kMarkerRule);
  const auto set = RuleSet::Load(folder_, &error_);
  ASSERT_NE(set, nullptr) << error_;
  const std::vector<std::byte> bytes(1 << 20, std::byte{'f'});
  EXPECT_EQ(set->Scan(bytes, std::chrono::nanoseconds(1)).found, Found::kTimeout);
  EXPECT_EQ(set->Scan(bytes, std::chrono::nanoseconds(0)).found, Found::kTimeout);
  EXPECT_EQ(set->Scan(bytes, std::chrono::hours(1)).found, Found::kNothing);
}

TEST_F(RuleSetTest, NamesFileAndLineOfAnError) {
  Write("bad.yar", "rule fine { condition: true }\nrule bad {\n  condition: tru\n}\n");
  EXPECT_EQ(RuleSet::Load(folder_, &error_), nullptr);
  EXPECT_THAT(error_, HasSubstr("bad.yar:3: "));
}

TEST_F(RuleSetTest, DoesNotReadOutsideItsFolder) {
  Write("include.yar", "include \"/etc/passwd\"\n");
  EXPECT_EQ(RuleSet::Load(folder_, &error_), nullptr);
  EXPECT_THAT(error_, HasSubstr("include.yar:1: "));
}

TEST_F(RuleSetTest, ALinkThatLeadsToNoFileIsNamed) {
  Write("marker.yar", kMarkerRule);
  std::filesystem::create_symlink("marker.yar", folder_ + "/2.yarx");
  EXPECT_NE(RuleSet::Load(folder_, &error_), nullptr) << error_;
  for (const char* target : {"nothing", "compiled"}) {
    std::filesystem::create_symlink(target, folder_ + "/link.yar");
    EXPECT_EQ(RuleSet::Load(folder_, &error_), nullptr);
    EXPECT_THAT(error_, HasSubstr("link.yar: a symbolic link, but not to a file"));
    std::filesystem::remove(folder_ + "/link.yar");
  }
}

TEST_F(RuleSetTest, RulesInFoldersBelowAreLoaded) {
  std::filesystem::create_directories(folder_ + "/2026/november");
  Write("2026/november/marker.yar", kMarkerRule);
  const auto set = RuleSet::Load(folder_, &error_);
  ASSERT_NE(set, nullptr) << error_;
  EXPECT_EQ(Scan(*set, "find-me").found, Found::kMatch);
}

TEST_F(RuleSetTest, ReportsAFolderWithoutRules) {
  EXPECT_EQ(RuleSet::Load(folder_, &error_), nullptr);
  EXPECT_THAT(error_, HasSubstr("no rules here"));
  error_.clear();
  EXPECT_EQ(RuleSet::Load(folder_ + "/absent", &error_), nullptr);
  EXPECT_THAT(error_, HasSubstr("No such file"));
}

TEST_F(RuleSetTest, LoadsWhatItSaved) {
  ASSERT_NO_FATAL_FAILURE(Save());
  const auto set = RuleSet::Load(Compiled(), &error_);
  ASSERT_NE(set, nullptr) << error_;
  EXPECT_EQ(Scan(*set, "find-me").rule, "marker");
  EXPECT_EQ(Scan(*set, "nothing").found, Found::kNothing);
}

TEST_F(RuleSetTest, RefusesAFileThatIsNotCompiledRules) {
  Write("compiled/rules.yarc", "these are no compiled rules");
  EXPECT_EQ(RuleSet::Load(Compiled(), &error_), nullptr);
  EXPECT_THAT(error_, HasSubstr("rules.yarc: not a compiled rule file"));
}

// libyara does not validate a compiled file. This file crashes it while it is loaded: the
// supervisor must survive such content by returning to the last good one.
TEST_F(RuleSetTest, ADamagedCompiledFileBringsTheProcessDown) {
  ASSERT_NO_FATAL_FAILURE(Save());
  constexpr std::streamoff kDamagedOffset = 154;  // the number of rules in its header
  {
    std::fstream file(Compiled() + "/rules.yarc", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kDamagedOffset);
    file.write("\xff\xff\xff\xff", 4);
    ASSERT_TRUE(file.good());
  }
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    // A sanitizer would report the signal and exit.
    for (const int number : {SIGSEGV, SIGBUS, SIGABRT}) signal(number, SIG_DFL);
    std::string error;
    (void)RuleSet::Load(Compiled(), &error);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
}

}  // namespace
}  // namespace scanner
