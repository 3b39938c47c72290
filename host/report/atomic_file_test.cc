// SPDX-License-Identifier: Apache-2.0
#include "host/report/atomic_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

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

class AtomicFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/atomic_file_test.XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static std::string Content(const std::filesystem::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  ptrdiff_t Files() { return std::distance(std::filesystem::directory_iterator(folder_), {}); }

  std::filesystem::path folder_;
};

TEST_F(AtomicFileTest, ASymbolicLinkStaysOne) {
  const std::filesystem::path file = folder_ / "file";
  const std::filesystem::path link = folder_ / "link";
  std::ofstream(file) << "old";
  std::filesystem::create_symlink("file", link);
  const absl::Status status = WriteFileAtomically(link, "new");
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(Content(file), "new");
  EXPECT_EQ(Files(), 2);
}

TEST_F(AtomicFileTest, ASymbolicLinkToNothingIsAnError) {
  const std::filesystem::path link = folder_ / "link";
  std::filesystem::create_symlink("nothing", link);
  EXPECT_TRUE(absl::IsNotFound(WriteFileAtomically(link, "new")));
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(Files(), 1);
}

TEST_F(AtomicFileTest, APipeGetsTheBytesThroughALinkToo) {
  const std::filesystem::path pipe = folder_ / "pipe";
  const std::filesystem::path link = folder_ / "link";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", link);
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  const absl::Status status = WriteFileAtomically(link, "report");
  EXPECT_TRUE(status.ok()) << status;
  char got[16] = {};
  EXPECT_EQ(read(reader, got, sizeof(got)), 6);
  EXPECT_STREQ(got, "report");
  close(reader);
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

TEST_F(AtomicFileTest, AFullDeviceIsAnErrorAndStays) {
  const std::filesystem::path link = folder_ / "link";
  std::filesystem::create_symlink("/dev/full", link);
  EXPECT_TRUE(absl::IsResourceExhausted(WriteFileAtomically(link, "report")));
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
}

mode_t ModeOf(const std::filesystem::path& path) {
  struct stat file = {};
  return lstat(path.c_str(), &file) == 0 ? file.st_mode & 07777u : 0u;
}

TEST_F(AtomicFileTest, AFileOfOursKeepsItsPermissionsAndNoOtherBits) {
  const std::filesystem::path file = folder_ / "file";
  std::ofstream(file) << "old";
  for (const auto& [mode, wanted] : {std::pair<mode_t, mode_t>{0600, 0600},
                                     {0640, 0640},
                                     {0666, 0666},
                                     {06777, 0666},
                                     {01755, 0644}}) {
    ASSERT_EQ(chmod(file.c_str(), mode), 0);
    EXPECT_TRUE(WriteFileAtomically(file, "new").ok());
    EXPECT_EQ(ModeOf(file), wanted) << std::oct << mode;
  }
}

// What a user without privileges may leave where root writes a report.
class TrapTest : public AtomicFileTest {
 protected:
  static constexpr uid_t kNobody = 65534;
  void SetUp() override {
    AtomicFileTest::SetUp();
    if (geteuid() != 0) GTEST_SKIP() << "gives files to another user: needs root";
    ASSERT_EQ(chmod(folder_.c_str(), 01777), 0);
  }
  void Give(const std::filesystem::path& path) {
    ASSERT_EQ(lchown(path.c_str(), kNobody, kNobody), 0);
  }
  void IsRefused(const std::filesystem::path& path) {
    EXPECT_NE(TrapAt(path), "");
    EXPECT_TRUE(absl::IsPermissionDenied(WriteFileAtomically(path, "new")));
  }
};

TEST_F(TrapTest, AFileOfAnotherUserInASharedFolderIsNotReplaced) {
  const std::filesystem::path file = folder_ / "report.json";
  std::ofstream(file) << "theirs";
  ASSERT_EQ(chmod(file.c_str(), 06777), 0);
  Give(file);
  ASSERT_EQ(chmod(file.c_str(), 06777), 0);
  IsRefused(file);
  EXPECT_EQ(Content(file), "theirs");
  ASSERT_EQ(chmod(folder_.c_str(), 0777), 0);
  IsRefused(file);
  // Where only its owner could have put it, it is replaced, and becomes no file with rights of
  // ours.
  ASSERT_EQ(chmod(folder_.c_str(), 0755), 0);
  EXPECT_TRUE(WriteFileAtomically(file, "new").ok());
  EXPECT_EQ(ModeOf(file), 0644u);
}

TEST_F(TrapTest, NoLinkOfAnotherUserIsFollowed) {
  const std::filesystem::path ours = folder_ / "ours", link = folder_ / "report.json";
  std::ofstream(ours) << "precious";
  std::filesystem::create_symlink("ours", link);
  Give(link);
  for (const mode_t mode : {mode_t{01777}, mode_t{0777}, mode_t{0755}}) {
    ASSERT_EQ(chmod(folder_.c_str(), mode), 0);
    IsRefused(link);
  }
  EXPECT_EQ(Content(ours), "precious");
}

// To open it would wait for a reader without end.
TEST_F(TrapTest, APipeOfAnotherUserIsNotOpened) {
  const std::filesystem::path pipe = folder_ / "report.json";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0666), 0);
  Give(pipe);
  IsRefused(pipe);
}

// A run as root once replaced /dev/stdout by a file, for the whole machine. The test uses a link of
// its own, which would be replaced instead.
TEST_F(AtomicFileTest, StandardOutputIsWrittenAfterWhatWasPrinted) {
  const std::filesystem::path file = folder_ / "printed";
  const std::filesystem::path link = folder_ / "stdout";
  std::filesystem::create_symlink("/proc/self/fd/1", link);
  std::fflush(stdout);
  const int before = dup(STDOUT_FILENO);
  const int output = open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(output, 0);
  dup2(output, STDOUT_FILENO);
  close(output);
  std::printf("before ");
  const absl::Status status = WriteFileAtomically(link, "report");
  std::printf(" after");
  std::fflush(stdout);
  dup2(before, STDOUT_FILENO);
  close(before);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(Content(file), "before report after");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(Files(), 2);
}

}  // namespace
}  // namespace bulkhead
