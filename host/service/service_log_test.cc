// SPDX-License-Identifier: Apache-2.0
#include "host/service/service_log.h"

#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

class ServiceLogTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    reader_.reset(ends[0]);
    writer_.reset(ends[1]);
    before_ = signal(SIGPIPE, SIG_IGN);
  }
  void TearDown() override { signal(SIGPIPE, before_); }

  void Open(bool quiet = false) { log_.emplace(quiet, writer_.get()); }
  // All that was said, when the log has ended.
  std::string Ended() {
    std::string text;
    std::thread reading([this, &text] {
      char bytes[4096];
      for (ssize_t n; (n = read(reader_.get(), bytes, sizeof(bytes))) > 0;) {
        text.append(bytes, static_cast<size_t>(n));
      }
    });
    while (!log_->Flush()) {
    }
    log_.reset();
    writer_.reset();
    reading.join();
    return text;
  }
  static DriverEvent Said(const std::string& driver, const std::string& text) {
    DriverEvent event = DriverEvent::Of(DriverEventKind::kLog);
    event.driver = driver;
    event.text = text;
    return event;
  }
  static long Lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

  UniqueFd reader_, writer_;
  std::optional<ServiceLog> log_;
  void (*before_)(int) = nullptr;
};

TEST_F(ServiceLogTest, SaysAllInOrder) {
  Open();
  log_->Text("one");
  log_->Event(Said("scanner", "two\x1b[2J"));
  log_->Warn("three");
  EXPECT_EQ(Ended(), "bulkhead: one\nscanner: says: two?[2J\nbulkhead: three\n");
}

TEST_F(ServiceLogTest, WhatWasSaidBeforeAFlushIsWritten) {
  Open();
  for (int i = 0; i < 100; ++i) log_->Text(i % 2 == 0 ? "line" : "LINE");
  while (!log_->Flush()) {
  }
  char bytes[4096];
  const ssize_t read_bytes = read(reader_.get(), bytes, sizeof(bytes));
  EXPECT_EQ(read_bytes, static_cast<ssize_t>(100 * sizeof("bulkhead: line")));
  log_.reset();
}

TEST_F(ServiceLogTest, AQuietOneSaysWarningsOnly) {
  Open(/*quiet=*/true);
  log_->Text("one");
  log_->Event(Said("scanner", "two"));
  log_->Warn("three");
  EXPECT_EQ(Ended(), "bulkhead: three\n");
}

TEST_F(ServiceLogTest, WhatIsLetThroughIsSaidEvenByAQuietOne) {
  Open(/*quiet=*/true);
  DriverEvent event = DriverEvent::Of(DriverEventKind::kLetThrough);
  event.driver = "scanner";
  event.number = 3;
  log_->Event(event);
  const std::string text = Ended();
  EXPECT_THAT(text, HasSubstr("scanner: 3 calls were let through without its decision"));
  EXPECT_EQ(Lines(text), 1) << text;
}

TEST_F(ServiceLogTest, NobodyWaitsForWhoDoesNotRead) {
  constexpr long kSaid = 20'000;
  Open();
  for (long i = 0; i < kSaid; ++i) log_->Text(absl::StrCat(i, std::string(100, 'x')));
  const std::string text = Ended();
  std::smatch found;
  ASSERT_TRUE(std::regex_search(text, found, std::regex("bulkhead: ([0-9]+) lines were dropped")))
      << "a pipe takes 64 KiB";
  EXPECT_EQ(Lines(text) - 1 + std::stol(found[1]), kSaid) << "each line is written or counted";
}

TEST_F(ServiceLogTest, ALineThatComesAgainAndAgainIsCounted) {
  Open();
  for (int i = 0; i < 1000; ++i) log_->Text("no space left on the device");
  log_->Text("space again");
  log_->Text("space again");
  EXPECT_EQ(Ended(),
            "bulkhead: no space left on the device\n"
            "bulkhead: no space left on the device (999 times more)\n"
            "bulkhead: space again\n"
            "bulkhead: space again (1 times more)\n");
}

TEST_F(ServiceLogTest, AsJsonEachLineIsAnObject) {
  log_.emplace(/*quiet=*/false, writer_.get(), LogFormat::kJson);
  DriverEvent event = DriverEvent::Of(DriverEventKind::kQuarantined);
  event.driver = "scanner";
  event.text = "a \"reason\"\nof two lines";
  log_->Event(event);
  log_->Warn("no event");
  for (const char* driver : {"one", "two"}) {
    for (uint32_t i = 0; i < 2 * ServiceLog::kDriverLinesMax; ++i) {
      log_->Event(Said(driver, absl::StrCat("word ", i)));
    }
  }
  std::istringstream lines(Ended());
  std::vector<nlohmann::json> objects;
  for (std::string line; std::getline(lines, line);) {
    objects.push_back(nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false));
    ASSERT_TRUE(objects.back().is_object()) << line;
  }
  ASSERT_EQ(objects.size(), 2u + 2 * ServiceLog::kDriverLinesMax);
  EXPECT_EQ(objects[0]["event"], "Quarantined");
  EXPECT_EQ(objects[0]["driver"], "scanner");
  EXPECT_EQ(objects[0]["level"], "error");
  EXPECT_EQ(objects[1]["line"], "bulkhead: no event");
  EXPECT_FALSE(objects[1].contains("event"));
  EXPECT_EQ(objects[2]["driver"], "one");
  EXPECT_EQ(objects[2]["text"], "word 0");
}

TEST_F(ServiceLogTest, AQuietOneTellsALossOfProtection) {
  Open(/*quiet=*/true);
  DriverEvent event = DriverEvent::Of(DriverEventKind::kProtection);
  event.number = BH_PROTECTION_FULL;
  event.text = "guard of /a: protection full";
  log_->Event(event);
  event.number = BH_PROTECTION_DEGRADED;
  event.text = "guard of /a: protection degraded";
  log_->Event(event);
  EXPECT_EQ(Ended(), "bulkhead: guard of /a: protection degraded\n");
}

TEST_F(ServiceLogTest, EndsWhileNobodyReads) {
  Open();
  for (int i = 0; i < 20'000; ++i) log_->Text(absl::StrCat(i, std::string(100, 'x')));
  log_.reset();  // the test ends, or its time limit
}

TEST_F(ServiceLogTest, EndsWhenItsReaderIsGone) {
  Open();
  reader_.reset();
  for (int i = 0; i < 5'000; ++i) log_->Text(absl::StrCat(i, " is not read"));
  log_->Flush();
  log_.reset();
}

TEST_F(ServiceLogTest, ADriverThatSaysTooMuchDrownsNoOther) {
  Open();
  for (int i = 0; i < 100'000; ++i) log_->Event(Said("chatty", absl::StrCat("word ", i)));
  log_->Event(Said("other", "heard"));
  DriverEvent ended = DriverEvent::Of(DriverEventKind::kQuarantined);
  ended.driver = "chatty";
  log_->Event(ended);
  const std::string text = Ended();
  EXPECT_THAT(text, HasSubstr("chatty: says: word 0\n"));
  EXPECT_THAT(text, HasSubstr("other: says: heard\n"));
  EXPECT_THAT(text, HasSubstr("chatty: quarantined"));
  EXPECT_LT(Lines(text), 10'000) << "of 100,000";
}

// A driver that floods its log and then says why it falls: the limit does not take that away.
TEST_F(ServiceLogTest, TheLastLinesBeforeAnEndAreSaidWhateverWasLeftOut) {
  Open();
  for (int i = 0; i < 10'000; ++i) log_->Event(Said("chatty", absl::StrCat("word ", i)));
  DriverEvent wrote = DriverEvent::Of(DriverEventKind::kWrote);
  wrote.driver = "chatty";
  wrote.text = "assertion failed";
  log_->Event(wrote);
  DriverEvent ended = DriverEvent::Of(DriverEventKind::kEnded);
  ended.driver = "chatty";
  ended.end = BH_END_CRASHED;
  ended.text = "signal 6";
  log_->Event(ended);
  const std::string text = Ended();
  EXPECT_THAT(text, HasSubstr("chatty: says: word 9999\n"
                              "chatty: wrote to standard error: assertion failed\n"
                              "chatty: crashed: signal 6\n"));
  EXPECT_LT(Lines(text), 1'000) << "of 10,000";
}

}  // namespace
}  // namespace bulkhead
