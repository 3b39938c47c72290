// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "bench/bounded_wait.h"
#include "bench/forked_process.h"
#include "host/service/temporary_folder.h"
#include "ipc/unique_fd.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

constexpr int kMayNotMount = 77;

// Stands for `bulkhead run`: says that it is ready, and lives until a signal.
constexpr const char* kService = R"(#!/bin/bash
while [[ $1 != --ready-fd ]]; do shift; done
echo ready >&"$2"
exec sleep infinity
)";

[[noreturn]] void StartAService(const std::string& programs, int told) {
  setenv("TMPDIR", programs.c_str(), 1);  // what it leaves behind is removed with the programs
  Program program = StartProgram(Attachments());
  program.folder = programs;
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create("service");
  if (!folder.ok()) _exit(kMayNotMount);
  (*folder)->EndServiceWithItsStarter();
  if (!(*folder)->Guard(program, {}, /*quiet=*/true).ok()) _exit(1);
  const pid_t service = (*folder)->ServicePid();
  (void)!write(told, &service, sizeof(service));
  for (;;) pause();
}

// A benchmark that runs into a bound ends by _exit(): its service was left behind.
TEST(ServiceEndTest, AServiceEndsWithABenchmarkThatDoesNotStopIt) {
  const absl::StatusOr<TemporaryFolder> programs = TemporaryFolder::Create();
  ASSERT_TRUE(programs.ok()) << programs.status();
  const std::string script = programs->path() + "/service";
  std::ofstream(script) << kService;
  ASSERT_EQ(chmod(script.c_str(), 0700), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);

  absl::StatusOr<ForkedProcess> starter =
      ForkedProcess::Start([&] { StartAService(programs->path(), in.get()); });
  ASSERT_TRUE(starter.ok()) << starter.status();
  in.reset();
  const absl::Status told = AwaitReadable("the start of a service", out.get());
  ASSERT_TRUE(told.ok()) << told;
  pid_t service = -1;
  if (read(out.get(), &service, sizeof(service)) != ssize_t{sizeof(service)}) {
    const absl::Status ended = starter->Join("the starter");
    ASSERT_THAT(std::string(ended.message()), HasSubstr("code 77"));
    GTEST_SKIP() << "this user can't mount";
  }
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, service, 0)));
  ASSERT_TRUE(pidfd.valid());
  starter->End();
  const absl::Status ended = AwaitReadable("the end of the service", pidfd.get());
  EXPECT_TRUE(ended.ok()) << ended;
  if (!ended.ok()) kill(service, SIGKILL);
}

}  // namespace
}  // namespace bulkhead
