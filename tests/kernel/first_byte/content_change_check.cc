// SPDX-License-Identifier: Apache-2.0
//
// Checks that a cached verdict does not survive a change of its file, by every way to change a
// file, at full speed. A folder is guarded with the driver first-byte and a cache; CHECK_GUARDED
// names it, CHECK_OUTSIDE another folder on the same file system, where the same file has a second
// name that is not guarded.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

namespace {

constexpr size_t kBytes = 4096;

std::string Folder(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// CHECK_ROUNDS is for kernels on which a thousand rounds take too long.
int Rounds() {
  const char* value = std::getenv("CHECK_ROUNDS");
  return value == nullptr ? 1000 : static_cast<int>(std::atol(value));
}

class ContentChange : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_FALSE(guarded_.empty() || outside_.empty()) << "CHECK_GUARDED, CHECK_OUTSIDE";
    Create();
  }
  void TearDown() override {
    unlink(guarded_.c_str());
    unlink(outside_.c_str());
  }

  // Through a mapping that is gone when it returns. The kernel notices a store that faults on
  // tmpfs, so the page is read first: then no store faults.
  void Store(char first) const {
    const int fd = open(outside_.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(fd, 0) << strerror(errno);
    volatile char* mapped = Map(fd);
    close(fd);
    ASSERT_NE(mapped, nullptr);
    if (*mapped != first) *mapped = first;
    munmap(const_cast<char*>(mapped), kBytes);
  }
  // A clean file with both names.
  void Create() {
    Write('C', O_CREAT | O_EXCL);
    ASSERT_EQ(link(outside_.c_str(), guarded_.c_str()), 0) << strerror(errno);
  }
  void Write(char first, int flags = 0) const {
    const int fd = open(outside_.c_str(), O_WRONLY | O_CLOEXEC | flags, 0600);
    ASSERT_GE(fd, 0) << strerror(errno);
    ASSERT_EQ(pwrite(fd, &first, 1, 0), 1);
    ASSERT_EQ(close(fd), 0);
  }
  static volatile char* Map(int fd) {
    void* mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return mapped == MAP_FAILED ? nullptr : static_cast<char*>(mapped);
  }
  bool Opens() const {
    const int fd = open(guarded_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) close(fd);
    return fd >= 0;
  }
  // Twice after each change: the driver is called once, then the verdict may be cached.
  void Alternate(const std::function<void(char first)>& change) const {
    int wrong = 0;
    for (int round = 0; round < rounds_ && !HasFatalFailure(); ++round) {
      const bool infected = round % 2 == 0;
      change(infected ? 'I' : 'C');
      wrong += Opens() == infected ? 1 : 0;
      wrong += Opens() == infected ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0) << "of " << 2 * rounds_ << " opens";
  }

  const std::string guarded_ = Folder("CHECK_GUARDED") + "/changing";
  const std::string outside_ = Folder("CHECK_OUTSIDE") + "/changing";
  const int rounds_ = Rounds();
};

TEST_F(ContentChange, Written) {
  Alternate([this](char first) { Write(first); });
}

TEST_F(ContentChange, WrittenThroughOneDescriptor) {
  const int fd = open(outside_.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  Alternate([fd](char first) { ASSERT_EQ(pwrite(fd, &first, 1, 0), 1); });
  close(fd);
}

TEST_F(ContentChange, Mapped) {
  ASSERT_EQ(truncate(outside_.c_str(), kBytes), 0);
  Alternate([this](char first) { Store(first); });
}

TEST_F(ContentChange, MappedAllAlong) {
  ASSERT_EQ(truncate(outside_.c_str(), kBytes), 0);
  const int fd = open(outside_.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  volatile char* mapped = Map(fd);
  ASSERT_NE(mapped, nullptr);
  close(fd);
  Alternate([mapped](char first) { *mapped = first; });
  munmap(const_cast<char*>(mapped), kBytes);
}

TEST_F(ContentChange, TruncatedByName) {
  Alternate([this](char first) {
    if (first == 'I') return Write(first);
    ASSERT_EQ(truncate(outside_.c_str(), 0), 0);
    ASSERT_EQ(truncate(outside_.c_str(), 1), 0);  // the old length
  });
}

TEST_F(ContentChange, TruncatedByAnOpenForReading) {
  Alternate([this](char first) {
    if (first == 'I') return Write(first);
    const int fd = open(outside_.c_str(), O_RDONLY | O_TRUNC | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    close(fd);
  });
}

TEST_F(ContentChange, RenamedOver) {
  Alternate([this](char first) {
    unlink(outside_.c_str());
    Write(first, O_CREAT | O_EXCL);
    ASSERT_EQ(rename(outside_.c_str(), guarded_.c_str()), 0);
  });
}

// The next file may get the inode number of the previous one.
TEST_F(ContentChange, Replaced) {
  Alternate([this](char first) {
    unlink(guarded_.c_str());
    unlink(outside_.c_str());
    Create();
    Write(first);
  });
}

// Verdicts that were requested during changes arrive during and after them.
TEST_F(ContentChange, WrittenWhileTheDriverLooks) {
  std::atomic<bool> ends{false};
  std::thread asks([this, &ends] {
    while (!ends.load()) Opens();
  });
  Alternate([this](char first) {
    Write(first == 'I' ? 'C' : 'I');
    Write(first);
  });
  ends.store(true);
  asks.join();
}

TEST_F(ContentChange, MappedWhileTheDriverLooks) {
  ASSERT_EQ(truncate(outside_.c_str(), kBytes), 0);
  std::atomic<bool> ends{false};
  std::thread asks([this, &ends] {
    while (!ends.load()) Opens();
  });
  Alternate([this](char first) {
    Store(first == 'I' ? 'C' : 'I');
    Store(first);
  });
  ends.store(true);
  asks.join();
}

}  // namespace
