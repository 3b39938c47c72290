// SPDX-License-Identifier: Apache-2.0
//
// An attachment that is a folder (inbox/) and a row (main.cc) and nothing else is known to every
// command: help, run, doctor, status, the report, and the refusals of what it can't do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "tests/testing/cli_fixture.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kProgram = "bulkhead-with-inbox";

TEST_F(Cli, ARowIsKnownToHelpDoctorAndRefusals) {
  const Outcome help = RunProgram(kProgram, "run --help");
  EXPECT_THAT(help.text, HasSubstr("inbox: files are asked about when they were written"));
  const Outcome doctor = RunProgram(kProgram, "doctor");
  EXPECT_THAT(doctor.text, HasSubstr("attachment inbox       works"));
  EXPECT_THAT(Run("doctor").text, Not(HasSubstr("inbox")));

  const std::string guard = "--driver null --guard " + files_;
  const Outcome owner = RunProgram(kProgram, "run --attachment inbox --owner 0 " + guard);
  EXPECT_EQ(owner.code, 2);
  EXPECT_THAT(owner.text, HasSubstr("--owner needs attachment 'module'"));
  EXPECT_THAT(owner.text, HasSubstr("'inbox' can't filter by owner"));
  const Outcome unknown = Run("run --attachment inbox " + guard);
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.text, HasSubstr("inbox"));
}

TEST_F(Cli, ARowGuardsShowsItsStatusAndItsCounters) {
  const pid_t service = StartService("--attachment inbox --driver scanner --quiet --json " +
                                         folder_ + "/run.json --guard " + files_,
                                     kProgram);
  ASSERT_GT(service, 0) << "it did not start";
  Infect();
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!fs::exists(files_ + "/infected.denied") && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(fs::exists(files_ + "/infected.denied"));
  EXPECT_TRUE(fs::exists(files_ + "/clean"));
  EXPECT_THAT(Run("status").text, HasSubstr("pid " + std::to_string(service) + ", inbox, up"));
  EXPECT_EQ(StopService(), 0);
  std::ifstream file(folder_ + "/run.json");
  const std::string report((std::istreambuf_iterator<char>(file)), {});
  EXPECT_THAT(report, HasSubstr("\"events\""));
  EXPECT_THAT(report, HasSubstr("\"read_errors\""));
}

}  // namespace
}  // namespace bulkhead
