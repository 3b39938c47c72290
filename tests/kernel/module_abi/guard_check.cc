// SPDX-License-Identifier: Apache-2.0
//
// The kernel module's reaction to guards that exceed their bounds. Run in a guest as the module's
// only supervisor.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>

#include "ipc/abi/module.h"

namespace {

class Guard : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_GE(device_, 0) << strerror(errno);
    ASSERT_GE(folder_, 0);
    ASSERT_GE(file_, 0);
  }
  void TearDown() override {
    EXPECT_EQ(ioctl(device_, BH_CONTROL_UNGUARD), 0);  // guards outlive the descriptor
    for (const int fd : {device_, folder_, file_}) close(fd);
  }
  bh_module_guard Valid() const {
    bh_module_guard guard = {};
    guard.fd = folder_;
    guard.kind = BH_GUARD_TREE;
    guard.deadline_ns = 1'000'000'000;
    guard.callbacks = bh_callback_bit(BH_CALLBACK_FILE_OPEN);
    guard.filter.owner = BH_MODULE_ANY_OWNER;
    return guard;
  }
  // 0, or errno.
  int Add(const std::function<void(bh_module_guard& guard)>& change) const {
    bh_module_guard guard = Valid();
    change(guard);
    return ioctl(device_, BH_CONTROL_GUARD, &guard) == 0 ? 0 : errno;
  }
  int AddFilter(const std::function<void(bh_module_filter& filter)>& change) const {
    return Add([&change](bh_module_guard& guard) { change(guard.filter); });
  }

  const int device_ = open("/dev/bulkhead", O_RDWR | O_CLOEXEC);
  const int folder_ = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int file_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
};

TEST_F(Guard, ValidFiltersAreTaken) {
  EXPECT_EQ(Add([](bh_module_guard&) {}), 0);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.modes = BH_MODE_READ; }), 0);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.owner = 0; }), 0);
  EXPECT_EQ(AddFilter([this](bh_module_filter& filter) {
              for (int32_t& skip : filter.skip) skip = folder_;
              filter.skips = BH_MODULE_SKIPS;
            }),
            0);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) {
              for (auto& extension : filter.extension) {
                std::memset(extension, 'x', BH_MODULE_EXTENSION_BYTES - 1);
              }
              filter.extensions = BH_MODULE_EXTENSIONS;
            }),
            0);
}

TEST_F(Guard, WhatIsOutOfBoundsIsRefused) {
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.modes = 4; }), EINVAL);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.skips = BH_MODULE_SKIPS + 1; }),
            EINVAL);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.skips = UINT32_MAX; }), EINVAL);
  EXPECT_EQ(
      AddFilter([](bh_module_filter& filter) { filter.extensions = BH_MODULE_EXTENSIONS + 1; }),
      EINVAL);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.extensions = 1; }), EINVAL);  // empty
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) {
              std::memset(filter.extension[0], 'x', BH_MODULE_EXTENSION_BYTES);
              filter.extensions = 1;
            }),
            EINVAL);
}

TEST_F(Guard, WhatIsNotUsedIsZero) {
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) { filter.extension[0][0] = 'x'; }), EINVAL);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) {
              std::strcpy(filter.extension[BH_MODULE_EXTENSIONS - 1], "x");
            }),
            EINVAL);
  EXPECT_EQ(AddFilter([this](bh_module_filter& filter) { filter.skip[0] = folder_; }), EINVAL);
}

TEST_F(Guard, OnlyFoldersAreSkipped) {
  EXPECT_EQ(AddFilter([this](bh_module_filter& filter) {
              filter.skip[0] = folder_;
              filter.skip[1] = file_;
              filter.skips = 2;
            }),
            ENOTDIR);
  EXPECT_EQ(AddFilter([](bh_module_filter& filter) {
              filter.skip[0] = -1;
              filter.skips = 1;
            }),
            EBADF);
}

TEST_F(Guard, ThereIsRoomForABoundedNumber) {
  int added = 0, error = 0;
  while (error == 0 && added < 10'000) {
    error = Add([](bh_module_guard&) {});
    added += error == 0 ? 1 : 0;
  }
  EXPECT_EQ(error, ENOSPC);
  EXPECT_EQ(added, 64);
}

}  // namespace
