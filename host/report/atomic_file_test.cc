// SPDX-License-Identifier: Apache-2.0
#include "host/report/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace bulkhead {
namespace {

// A file system of one page, so that the disk is really full. Needs root.
class FullDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/full_disk_test.XXXXXX";
    disk_ = mkdtemp(name.data());
    if (mount("bulkhead-test", disk_.c_str(), "tmpfs", 0, "size=8k") != 0) {
      std::filesystem::remove(disk_);
      GTEST_SKIP() << "cannot mount a small tmpfs (" << std::strerror(errno)
                   << "): run as root with CAP_SYS_ADMIN";
    }
    mounted_ = true;
  }
  void TearDown() override {
    if (!mounted_) return;
    EXPECT_EQ(umount(disk_.c_str()), 0) << std::strerror(errno);
    std::filesystem::remove(disk_);
  }

  std::filesystem::path disk_;
  bool mounted_ = false;
};

TEST_F(FullDiskTest, OldFileStaysAndNoPartIsLeft) {
  const std::filesystem::path path = disk_ / "report.json";
  std::ofstream(path) << "old";
  const absl::Status status = WriteFileAtomically(path, std::string(64 * 1024, 'x'));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("disk is full"));
  std::string content;
  std::ifstream(path) >> content;
  EXPECT_EQ(content, "old");
  const std::filesystem::directory_iterator begin(disk_);
  EXPECT_EQ(std::distance(begin, std::filesystem::directory_iterator()), 1);
}

}  // namespace
}  // namespace bulkhead
