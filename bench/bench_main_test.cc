// SPDX-License-Identifier: Apache-2.0
#include "bench/bench_main.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

namespace bulkhead {
namespace {

using ::testing::ElementsAre;
using ::testing::ExitedWithCode;

// What it measures is the test's.
class Measures final : public Benchmark {
 public:
  using Function = std::function<absl::Status(const BenchRun&, Report&)>;
  explicit Measures(Function measure) : measure_(std::move(measure)) {}
  std::string name() const override { return "test"; }
  std::string about() const override { return "A benchmark of the test"; }
  BenchCount count() const override {
    return {.option = "--rounds", .about = "Rounds", .usual = 50, .short_form = 5, .max = 100};
  }
  absl::Status Probe() override { return able; }
  absl::Status Measure(const BenchRun& run, Report& report) override {
    return measure_(run, report);
  }
  absl::Status able;

 private:
  Function measure_;
};

int Main(Benchmark& benchmark, std::vector<std::string> words = {}) {
  words.insert(words.begin(), "bench-test");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return BenchMain(benchmark, static_cast<int>(words.size()), pointers.data());
}

Measures::Function Figure(double value) {
  return [value](const BenchRun&, Report& report) {
    report.AddFigure("calls_wrong", value, "", 0, Report::Relation::kAtMost);
    return absl::OkStatus();
  };
}

Measures NeverMeasures() {
  return Measures([](const BenchRun&, Report&) -> absl::Status {
    ADD_FAILURE() << "it was to end before";
    return absl::OkStatus();
  });
}

TEST(BenchMainTest, TheExitCodeSaysWhetherTheFiguresHold) {
  Measures holds(Figure(0)), missed(Figure(1));
  EXPECT_EQ(Main(holds), 0);
  EXPECT_EQ(Main(missed), 1);
}

TEST(BenchMainTest, AnErrorIsSaidAndIsNoMissedFigure) {
  Measures broken([](const BenchRun&, Report&) { return absl::InternalError("no peer"); });
  testing::internal::CaptureStderr();
  EXPECT_EQ(Main(broken), 2);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "bench-test: no peer\n");
}

TEST(BenchMainTest, WhatTheMachineCanNotRunIsSkippedWithTheReason) {
  Measures unable = NeverMeasures();
  unable.able = absl::UnavailableError("one CPU");
  Measures forbidden([](const BenchRun&, Report&) { return absl::PermissionDeniedError("root"); });
  testing::internal::CaptureStdout();
  EXPECT_EQ(Main(unable), kExitSkipped);
  EXPECT_EQ(Main(forbidden), kExitSkipped);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "SKIP: one CPU\nSKIP: root\n");
}

TEST(BenchMainTest, OptionsReachTheRun) {
  std::vector<std::string> seen;
  Measures measures([&seen](const BenchRun& run, Report& report) {
    seen.push_back(run.command + " = " + std::to_string(run.count) + (run.short_form ? " s" : "") +
                   (run.limited ? "" : " u"));
    return Figure(0)(run, report);
  });
  EXPECT_EQ(Main(measures), 0);
  EXPECT_EQ(Main(measures, {"--rounds", "7"}), 0);
  EXPECT_EQ(Main(measures, {"--short", "--unlimited"}), 0);
  EXPECT_THAT(seen, ElementsAre("./dev bench test = 50", "./dev bench test --rounds 7 = 7",
                                "./dev bench test --short --unlimited = 5 s u"));
}

TEST(BenchMainTest, WrongUsageEndsItBeforeItMeasures) {
  Measures never = NeverMeasures();
  EXPECT_EQ(Main(never, {"--help"}), 0);
  for (const std::vector<std::string>& words : {std::vector<std::string>{"--nonsense"},
                                                {"--rounds", "0"},
                                                {"--rounds", "101"},
                                                {"--json", "/nowhere/report.json"}}) {
    EXPECT_EQ(Main(never, words), 2) << words[0];
  }
}

TEST(BenchMainTest, WritesTheReport) {
  const std::string path = testing::TempDir() + "/bench_main_test.json";
  std::filesystem::remove(path);
  Measures holds(Figure(0));
  EXPECT_EQ(Main(holds, {"--json", path}), 0);
  EXPECT_GT(std::filesystem::file_size(path), 0u);
  std::filesystem::remove(path);
}

// In a process of its own: the second signal would end this one.
TEST(BenchMainDeathTest, CtrlCEndsItInOrderWithoutAReport) {
  const std::string path = testing::TempDir() + "/bench_main_interrupted.json";
  EXPECT_EXIT(
      {
        Measures interrupted([](const BenchRun& run, Report&) {
          raise(SIGINT);
          return run.interrupted() ? absl::InternalError("a peer that the signal ended")
                                   : absl::OkStatus();
        });
        _exit(Main(interrupted, {"--json", path}));
      },
      ExitedWithCode(kExitInterrupted), "bench-test: interrupted; nothing was reported\n$");
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace bulkhead
