// SPDX-License-Identifier: Apache-2.0
//
// The library that vendors test their drivers with, over its public header: what a host does for a
// driver, it does.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <bulkhead/testing.hpp>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "ipc/sanitizer.h"

namespace bulkhead::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Build() {
  const char* build = std::getenv("BULKHEAD_BUILD");
  return build == nullptr ? "." : build;
}
std::string DriverFolder(const std::string& name) { return Build() + "/drivers/" + name; }
std::string Module(const std::string& name) { return Build() + "/test-modules/" + name + ".so"; }

// What `work` throws.
template <typename Work>
std::string ErrorOf(Work work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class Folder {
 public:
  Folder() : path_(::testing::TempDir() + "/harness-" + std::to_string(getpid())) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string File(const std::string& name, const std::string& content) const {
    std::ofstream(path_ + "/" + name) << content;
    return path_ + "/" + name;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Call Named(const std::string& path) { return {.path = path, .no_file = true}; }

TEST(DriverTest, AnswersEachCallback) {
  DriverTest driver({.folder = DriverFolder("null"), .options = "deny-odd cache"});
  driver.start();
  for (const uint32_t callback :
       {BULKHEAD_ON_FILE_OPEN, BULKHEAD_ON_FILE_EXEC, BULKHEAD_ON_FILE_ACCESS}) {
    Call call = Named("/f");
    call.callback = callback;
    call.inode = 2;
    const Result even = driver.call(call);
    EXPECT_TRUE(even.allowed());
    EXPECT_TRUE(even.cacheable);
    EXPECT_EQ(even.error, 0);
    call.inode = 3;
    const Result odd = driver.call(call);
    EXPECT_TRUE(odd.denied());
    EXPECT_EQ(odd.error, EPERM);
  }
  EXPECT_THAT(ErrorOf([&] { driver.call({.callback = 0x0201, .path = "/", .no_file = true}); }),
              HasSubstr("no callback"));
}

// By its path, by a descriptor, and as the opener that the test wants.
TEST(DriverTest, GivesTheFileAndItsOpener) {
  const Folder folder;
  const std::string file = folder.File("content", "content");
  DriverTest driver({.library = Module("survivor"), .checkpoint_bytes = 8192});
  driver.start();
  Call call = {.callback = BULKHEAD_ON_FILE_EXEC, .path = file, .pid = 77, .uid = 88};
  EXPECT_TRUE(driver.call(call).allowed());
  call.descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(call.descriptor, 0);
  EXPECT_TRUE(driver.call(call).allowed());
  EXPECT_NE(fcntl(call.descriptor, F_GETFD), -1) << "it is the test's";
  call.uid = 89;
  EXPECT_TRUE(driver.call(call).denied());
  close(call.descriptor);
  EXPECT_THAT(ErrorOf([&] { driver.call({.path = folder.path() + "/gone"}); }),
              HasSubstr("No such file"));
  EXPECT_THAT(ErrorOf([&] { driver.call({}); }), HasSubstr("give its path or a descriptor"));
}

// The survivor counts across its lives, and refuses a start whose reason does not fit.
TEST(DriverTest, ARestartKeepsTheCheckpoint) {
  DriverTest driver({.library = Module("survivor"), .checkpoint_bytes = 8192});
  driver.start();
  driver.restart();
  driver.stop();
  EXPECT_THAT(ErrorOf([&] { driver.start(StartReason::cold); }), HasSubstr("does not fit"));
  driver.start(StartReason::upgrade);
}

TEST(DriverTest, ReportsWhatStartSays) {
  const Folder folder;
  folder.File("faults", "fail-start");
  DriverTest driver({.folder = DriverFolder("faulty"), .content = folder.path()});
  EXPECT_EQ(ErrorOf([&] { driver.start(); }), "its content asks it to fail in start");
  folder.File("faults", "");
  driver.start();
  EXPECT_TRUE(driver.call(Named("any")).allowed());
  EXPECT_THAT(ErrorOf([&] { driver.start(); }), HasSubstr("runs already"));
}

TEST(DriverTest, SaysHowACallEnded) {
  DriverTest driver({.folder = DriverFolder("faulty"), .workers = 1});
  driver.start();
  EXPECT_TRUE(driver.call(Named("deny-it")).denied());
  const Result thrown = driver.call(Named("throw-it"));
  EXPECT_TRUE(thrown.declined());
  EXPECT_FALSE(thrown.allow) << "what was in its hands and not decided is denied";
  EXPECT_TRUE(driver.logged("a callback threw: as asked"));
  ASSERT_EQ(driver.log().size(), 1u);
  EXPECT_EQ(driver.log()[0].level, BULKHEAD_LOG_ERROR);
  EXPECT_NE(driver.log()[0].time_ns, 0u);
  driver.clear_log();
  EXPECT_TRUE(driver.log().empty());

  const Result garbage = driver.call(Named("garbage-it"));
  EXPECT_TRUE(garbage.violation());
  EXPECT_FALSE(garbage.allow);
  EXPECT_NE(garbage.reason, "");
  EXPECT_THAT(ErrorOf([&] { driver.call(Named("any")); }), HasSubstr("broke the protocol"));
  driver.restart();
  EXPECT_TRUE(driver.call(Named("any")).allowed());
}

TEST(DriverTest, ACallThatOverrunsItsDeadlineIsOverdue) {
  DriverTest driver({.folder = DriverFolder("faulty")});
  driver.start();
  Call call = Named("slow-300-");
  call.deadline = milliseconds(20);
  const Result result = driver.call(call);
  EXPECT_TRUE(result.overdue());
  EXPECT_FALSE(result.allow);
  EXPECT_GE(result.took, milliseconds(10)) << "the shim's clock has ticks of up to 10 ms";
  call = Named("slow-1-");
  EXPECT_TRUE(driver.call(call).allowed()) << "5 s are enough";
}

TEST(DriverTest, WhatItDidNotRegisterForIsNotAsked) {
  DriverTest driver({.folder = DriverFolder("faulty")});
  driver.start();
  Call call = Named("any");
  call.callback = BULKHEAD_ON_FILE_ACCESS;
  EXPECT_EQ(driver.call(call).outcome, BULKHEAD_TEST_UNASKED);
}

TEST(DriverTest, ACallMayBeAnsweredLater) {
  DriverTest driver({.library = Module("later"), .options = "hold=2", .pending_calls_max = 4});
  driver.start();
  EXPECT_TRUE(driver.logged("may have 4 pending"));
  Call even = Named("/p/2"), odd = Named("/p/3");
  even.inode = 2;
  odd.inode = 3;
  const uint64_t first = driver.begin(even);
  EXPECT_FALSE(driver.wait(first, milliseconds(1)).has_value());
  const uint64_t second = driver.begin(odd);
  EXPECT_TRUE(driver.wait(first).allowed());
  const Result denied = driver.wait(second);
  EXPECT_TRUE(denied.denied());
  EXPECT_EQ(denied.error, EACCES);
  EXPECT_THAT(ErrorOf([&] { driver.wait(second); }), HasSubstr("waited for before"));
}

TEST(DriverTest, TellsNotificationsAndLosses) {
  DriverTest driver({.library = Module("listener")});
  driver.start();
  Happened happened = {
      .kind = BULKHEAD_PROCESS_EXECUTED, .pid = 5, .inode = 131, .text = "/bin/a", .text2 = "w"};
  driver.notify(happened);
  happened.missed = 7;
  driver.notify(happened);
  happened.missed = 0;
  driver.notify(happened);
  driver.settle();
  std::vector<std::string> said;
  for (const LogLine& line : driver.log()) said.push_back(line.text);
  EXPECT_THAT(said, ElementsAre("told 1 after 0: 514 by 5 /bin/a|w inode 131",
                                "told 9 after 7: 514 by 5 /bin/a|w inode 131",
                                "told 10 after 0: 514 by 5 /bin/a|w inode 131"));
  EXPECT_THAT(ErrorOf([&] { driver.notify({.kind = BULKHEAD_PROCESS_EXITED}); }),
              HasSubstr("did not register for notifications of kind 515 (process_exited)"));
  driver.restart();
  driver.notify(happened);
  driver.settle();
  EXPECT_TRUE(driver.logged("told 11 after 0"));
}

TEST(DriverTest, MoreNotificationsThanTheRingHasAreAllTold) {
  DriverTest driver({.folder = DriverFolder("observer")});
  driver.start();
  for (int i = 0; i < 5000; ++i) driver.notify({.kind = BULKHEAD_FILE_WRITTEN, .text = "/f"});
  driver.settle();
  driver.stop();
  EXPECT_TRUE(driver.logged("told 5000, missed 0"));
}

TEST(DriverTest, ACrashIsReportedWithTheLastWords) {
  const End end = in_child({.folder = DriverFolder("faulty")},
                           [](DriverTest& driver) { driver.call(Named("words-")); });
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_EQ(end.exit_code, -1);
  EXPECT_EQ(end.text, "signal 9 (Killed)");
  EXPECT_EQ(end.last_lines, "error: last words\n");
  EXPECT_THAT(end.error_output, HasSubstr("last cry\n"));
}

TEST(DriverTest, AChildThatDoesNotEndIsKilled) {
  const End hung = in_child(
      {.folder = DriverFolder("faulty")}, [](DriverTest& driver) { driver.call(Named("hang-")); },
      milliseconds(500));
  EXPECT_TRUE(hung.hung);
  const End whole = in_child({.folder = DriverFolder("faulty")}, [](DriverTest& driver) {
    if (!driver.call(Named("any")).allowed()) throw std::runtime_error("not allowed");
  });
  EXPECT_EQ(whole.text, "exit code 0") << whole.error_output;
  const End failed = in_child({.folder = DriverFolder("faulty")},
                              [](DriverTest&) { throw std::runtime_error("a check failed"); });
  EXPECT_EQ(failed.exit_code, 3);
  EXPECT_THAT(failed.error_output, HasSubstr("a check failed"));
}

TEST(DriverTest, RefusesWhatAHostRefuses) {
  EXPECT_THAT(ErrorOf([] { DriverTest driver({.library = Module("wrong_abi")}); }),
              HasSubstr("driver ABI 2"));
  EXPECT_THAT(ErrorOf([] { DriverTest driver({.folder = "/nowhere"}); }),
              HasSubstr("/nowhere/manifest.json"));
  EXPECT_THAT(ErrorOf([] { DriverTest driver({}); }), HasSubstr("a driver's folder or a library"));
  EXPECT_THAT(
      ErrorOf([] {
        DriverTest driver({.folder = DriverFolder("faulty"), .content = "/nowhere/content"});
      }),
      HasSubstr("no such folder of content"));
}

// As in a process of its own, static data begins anew.
TEST(DriverTest, AStopUnloadsTheLibrary) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer keeps libraries loaded";
  DriverTest driver({.library = Module("good")});
  driver.start();
  EXPECT_TRUE(driver.stop());
  driver.start();
  EXPECT_TRUE(driver.call(Named("any")).allowed());
}

TEST(DriverTest, ReplaysARecording) {
  const Folder folder;
  const std::string recording = folder.path() + "/events.jsonl";
  folder.File("sample", "text");
  record(recording, Call{.path = "sample", .pid = 9});
  record(recording, Named("deny-it"));
  DriverTest driver({.folder = DriverFolder("faulty")});
  driver.start();
  const std::vector<Result> results = driver.replay(recording);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_TRUE(results[0].allowed());
  EXPECT_TRUE(results[1].denied());
  record(recording, Call{.path = "gone"});
  EXPECT_THAT(ErrorOf([&] { driver.replay(recording); }), HasSubstr("line 3: cannot open"));

  DriverTest listener({.library = Module("listener")});
  listener.start();
  const std::string told = folder.path() + "/told.jsonl";
  record(told, Happened{.kind = BULKHEAD_FILE_RENAMED, .text = "/a\xff", .text2 = "/b"});
  EXPECT_TRUE(listener.replay(told).empty());
  listener.settle();
  EXPECT_TRUE(listener.logged("/a\xff|/b"));
}

}  // namespace
}  // namespace bulkhead::testing
