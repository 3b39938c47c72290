// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>
#include <bulkhead/testing.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace bulkhead::testing {
namespace {

std::string DriverFolder() {
  return std::string(std::getenv("BULKHEAD_BUILD")) + "/drivers/scanner";
}

class ScannerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/scanner-" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string File(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ + "/" + name) << content;
    return folder_ + "/" + name;
  }
  std::string folder_;
};

TEST_F(ScannerTest, DeniesWhatMatchesAndSaysWhichRule) {
  DriverTest driver({.folder = DriverFolder(), .content = folder_});
  File("rules.yar", "rule bad { strings: $a = \"evil\" condition: $a }");
  driver.start();
  const Result found = driver.call({.path = File("found", "some evil text")});
  EXPECT_TRUE(found.denied());
  EXPECT_EQ(found.reason, "bad");
  EXPECT_TRUE(found.cacheable);
  EXPECT_TRUE(driver.logged("found: bad"));
  EXPECT_TRUE(driver.call({.path = File("clean", "some text")}).allowed());
  EXPECT_TRUE(driver.call({.path = File("empty", "")}).allowed());
  EXPECT_TRUE(
      driver.call({.callback = BULKHEAD_ON_FILE_EXEC, .path = folder_ + "/found"}).denied());
}

// Without a descriptor there is nothing to look at: the operator's policy decides.
TEST_F(ScannerTest, DeclinesWhatItCannotRead) {
  DriverTest driver({.folder = DriverFolder()});
  driver.start();
  EXPECT_TRUE(driver.call({.path = "/gone", .no_file = true}).declined());
}

TEST_F(ScannerTest, DoesNotStartWithRulesThatDoNotCompile) {
  File("rules.yar", "rule bad {");
  DriverTest driver({.folder = DriverFolder(), .content = folder_});
  try {
    driver.start();
    FAIL() << "it started";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("rules.yar"), std::string::npos) << error.what();
  }
  File("rules.yar", "rule good { condition: false }");
  driver.start();
  driver.restart(StartReason::upgrade);
}

}  // namespace
}  // namespace bulkhead::testing
