// SPDX-License-Identifier: Apache-2.0
//
// What the supervisor takes the end of a host for, and says to the shim: the table in host_ends.h,
// which the kernel module is held to as well (host_end_check.cc).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <optional>
#include <string>

#include "host/supervisor/lifecycle.h"
#include "ipc/unique_fd.h"
#include "tests/kernel/module_abi/host_ends.h"

namespace bulkhead {
namespace {

class SupervisedEnds : public testing::TestWithParam<HostEnd> {
 protected:
  // What the step says to the shim about the end.
  std::optional<bh_end> Step(const Event& event) {
    std::optional<bh_end> end;
    for (const ActionItem& action : life_.Step(event, 1)) {
      if (action.kind == ActionKind::kEnd) end = action.end;
    }
    return end;
  }

  Lifecycle life_{LifecycleLimits(), 1};
};

TEST_P(SupervisedEnds, CountAs) {
  const HostEnd& row = GetParam();
  Step({.kind = EventKind::kStart});
  const uint32_t generation = life_.generation();
  for (const EventKind kind :
       {EventKind::kSpawned, EventKind::kHello, EventKind::kStarted, EventKind::kBegun}) {
    Step({.kind = kind, .generation = generation});
  }
  ASSERT_EQ(life_.state(), State::kServing);
  if (row.asked) Step({.kind = EventKind::kStop});

  int input[2], output[2];
  ASSERT_EQ(pipe2(input, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(output, O_CLOEXEC), 0);
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    dup2(input[0], STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    close(input[1]);
    row.act([] {});
    _exit(1);
  }
  const UniqueFd test_end(input[1]), its_output(output[0]);
  close(input[0]);
  close(output[1]);
  if (row.afterwards == Afterwards::kLives) {
    // It answers no call and no ping, until the supervisor ends it for that.
    char byte;
    ASSERT_EQ(read(its_output.get(), &byte, 1), 1);
    Step({.kind = EventKind::kHung, .generation = generation});
    ASSERT_EQ(kill(pid, SIGKILL), 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  const std::optional<bh_end> end =
      Step({.kind = EventKind::kExited, .generation = generation, .end = bh_end_of_exit(status)});
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(*end, row.end);
}

INSTANTIATE_TEST_SUITE_P(Table, SupervisedEnds, testing::ValuesIn(kHostEnds),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace bulkhead
