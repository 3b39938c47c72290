// SPDX-License-Identifier: Apache-2.0
#include "bench/fanotify_responder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

// On one CPU an opener may go on, and end the responder, before the responder's write returns.
TEST(FanotifyResponderTest, EndsRightBehindAnOpen) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(sched_getcpu()), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  std::string folder = testing::TempDir() + "/responder-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string file = folder + "/file";
  ASSERT_TRUE(UniqueFd(open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)).valid());

  for (int i = 0; i < 500; ++i) {
    const absl::StatusOr<std::unique_ptr<FanotifyResponder>> responder =
        FanotifyResponder::Start(folder);
    if (absl::IsPermissionDenied(responder.status())) {
      std::filesystem::remove_all(folder);
      GTEST_SKIP() << responder.status().message();
    }
    ASSERT_TRUE(responder.ok()) << responder.status();
    EXPECT_TRUE(UniqueFd(open(file.c_str(), O_RDONLY | O_CLOEXEC)).valid());
    EXPECT_EQ((*responder)->answered(), 1u);
  }
  std::filesystem::remove_all(folder);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

}  // namespace
}  // namespace bulkhead
