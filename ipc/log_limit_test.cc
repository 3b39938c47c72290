// SPDX-License-Identifier: Apache-2.0
#include "ipc/log_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace bulkhead {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kStartNs = 1'000'000'000'000;

class LogLimitTest : public ::testing::Test {
 protected:
  void Flood(uint32_t lines, uint64_t now_ns) {
    for (uint32_t i = 0; i < lines; ++i) limit_.Log("trouble", now_ns);
  }

  std::vector<std::string> said_;
  LogLimit limit_{[this](const std::string& line) { said_.push_back(line); }};
};

TEST_F(LogLimitTest, LeavesOutWhatIsTooMuchForAMinute) {
  Flood(LogLimit::kLinesMax, kStartNs);
  EXPECT_EQ(said_.size(), LogLimit::kLinesMax);
  const uint64_t last_ns = kStartNs + LogLimit::kMinuteNs - 1;
  Flood(3, last_ns);
  limit_.TellLeftOut(last_ns);
  EXPECT_EQ(said_.size(), LogLimit::kLinesMax);
}

TEST_F(LogLimitTest, SaysHowManyBeforeTheNextLine) {
  Flood(LogLimit::kLinesMax + 3, kStartNs);
  said_.clear();
  Flood(1, kStartNs + LogLimit::kMinuteNs);
  EXPECT_THAT(said_, ElementsAre("and 3 more like these", "trouble"));
}

TEST_F(LogLimitTest, SaysHowManyOnce) {
  limit_.TellLeftOut(kForeverNs);
  EXPECT_THAT(said_, ElementsAre());
  Flood(LogLimit::kLinesMax + 7, kStartNs);
  said_.clear();
  limit_.TellLeftOut(kStartNs + LogLimit::kMinuteNs);
  limit_.TellLeftOut(kForeverNs);
  EXPECT_THAT(said_, ElementsAre("and 7 more like these"));
}

TEST_F(LogLimitTest, HasNumbersAndANameOfItsOwn) {
  LogLimit limit([this](const std::string& line) { said_.push_back(line); }, 2, 100, "chatty: ");
  for (const char* line : {"one", "two", "three", "four"}) limit.Log(line, kStartNs);
  limit.TellLeftOut(kStartNs + 99);
  EXPECT_THAT(said_, testing::ElementsAre("one", "two"));
  limit.TellLeftOut(kStartNs + 100);
  EXPECT_THAT(said_, testing::ElementsAre("one", "two", "chatty: and 2 more like these"));
}

}  // namespace
}  // namespace bulkhead
