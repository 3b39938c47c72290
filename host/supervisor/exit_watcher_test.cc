// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/exit_watcher.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

// A host can use up the threads that its supervisor may have, where both share a control group.
TEST(ExitWatcher, IsNullWithoutAThread) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs address space without a limit";
  const pid_t pid = fork();
  if (pid == 0) {
    auto line = LifeLine::Create();
    const rlimit none = {.rlim_cur = 0, .rlim_max = 0};
    // No room for a stack: pthread_create fails as it does without a task to be had.
    if (!line.ok() || setrlimit(RLIMIT_AS, &none) != 0) _exit(1);
    _exit(ExitWatcher::Start(*std::move(line), [] {}) == nullptr ? 0 : 2);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace bulkhead
