// SPDX-License-Identifier: Apache-2.0
#include "host/cli/service_log.h"

#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <optional>
#include <regex>
#include <string>
#include <thread>

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
  for (int i = 0; i < 100; ++i) log_->Text("line");
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
  for (long i = 0; i < kSaid; ++i) log_->Text(std::string(100, 'x'));
  const std::string text = Ended();
  std::smatch found;
  ASSERT_TRUE(std::regex_search(text, found, std::regex("bulkhead: ([0-9]+) lines were dropped")))
      << "a pipe takes 64 KiB";
  EXPECT_EQ(Lines(text) - 1 + std::stol(found[1]), kSaid) << "each line is written or counted";
}

TEST_F(ServiceLogTest, EndsWhileNobodyReads) {
  Open();
  for (int i = 0; i < 20'000; ++i) log_->Text(std::string(100, 'x'));
  log_.reset();  // the test ends, or its time limit
}

TEST_F(ServiceLogTest, EndsWhenItsReaderIsGone) {
  Open();
  reader_.reset();
  for (int i = 0; i < 5'000; ++i) log_->Text("nobody hears it");
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

}  // namespace
}  // namespace bulkhead
