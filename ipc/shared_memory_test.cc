// SPDX-License-Identifier: Apache-2.0
#include "ipc/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

constexpr size_t kBytes = 4 * 4096;
constexpr int kResizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

// A region like a channel's call region: mapped writable here, sealed for all other processes.
SharedMemory ReadOnlyForOthers() {
  auto memory = SharedMemory::Create("test-region", kBytes);
  EXPECT_TRUE(memory.ok()) << memory.status();
  EXPECT_TRUE(memory->SealAgainstResize().ok());
  EXPECT_TRUE(memory->SealAgainstNewWriters().ok());
  EXPECT_TRUE(memory->SealForGood().ok());
  return *std::move(memory);
}

UniqueFd Copy(const SharedMemory& memory) { return *memory.fd().Duplicate(); }

TEST(SharedMemory, IsZeroedWritableAndOfTheSizeAskedFor) {
  auto memory = SharedMemory::Create("test-region", kBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->bytes(), kBytes);
  for (size_t i = 0; i < kBytes; ++i) ASSERT_EQ(memory->data()[i], std::byte{0});
  memory->data()[kBytes - 1] = std::byte{7};
}

TEST(SharedMemory, RefusesSizesThatAreNoPages) {
  EXPECT_EQ(SharedMemory::Create("x", 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SharedMemory::Create("x", 4095).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemory, RefusesToTakeTheWholeMachine) {
  EXPECT_EQ(SharedMemory::Create("x", kSharedMemoryBytesMax + 4096).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemory, MovesWithItsMapping) {
  auto memory = SharedMemory::Create("test-region", kBytes);
  std::byte* data = memory->data();
  SharedMemory moved = *std::move(memory);
  EXPECT_EQ(moved.data(), data);
  SharedMemory assigned;
  assigned = std::move(moved);
  EXPECT_EQ(assigned.data(), data);
  assigned.data()[0] = std::byte{1};
}

TEST(SharedMemory, TheOtherSideSeesWhatIsWritten) {
  SharedMemory memory = ReadOnlyForOthers();
  auto view = SharedMemory::MapChecked(Copy(memory), kBytes, SharedMemory::Access::kReadOnly,
                                       kResizeSeals | F_SEAL_FUTURE_WRITE);
  ASSERT_TRUE(view.ok()) << view.status();
  memory.data()[17] = std::byte{42};
  EXPECT_EQ(view->data()[17], std::byte{42});
}

TEST(SharedMemory, MapCheckedSaysWhatIsWrong) {
  auto unsealed = SharedMemory::Create("test-region", kBytes);
  auto refused =
      SharedMemory::MapChecked(Copy(*unsealed), kBytes, SharedMemory::Access::kReadWrite, 0);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("F_SEAL_SHRINK|F_SEAL_GROW"));
  EXPECT_FALSE(SealedMemoryBytes(unsealed->fd().get()).ok());

  ASSERT_TRUE(unsealed->SealAgainstResize().ok());
  refused = SharedMemory::MapChecked(Copy(*unsealed), kBytes, SharedMemory::Access::kReadOnly,
                                     F_SEAL_FUTURE_WRITE);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("F_SEAL_FUTURE_WRITE"));
  EXPECT_EQ(SealedMemoryBytes(unsealed->fd().get()).value(), kBytes);

  refused =
      SharedMemory::MapChecked(Copy(*unsealed), kBytes + 4096, SharedMemory::Access::kReadOnly, 0);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("where 20480 belong"));

  refused = SharedMemory::MapChecked(UniqueFd(open("/dev/zero", O_RDWR | O_CLOEXEC)), kBytes,
                                     SharedMemory::Access::kReadOnly, 0);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("not a memfd"));

  refused = SharedMemory::MapChecked(UniqueFd(), kBytes, SharedMemory::Access::kReadOnly, 0);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemory, SealedMemoryKeepsItsSize) {
  SharedMemory memory = ReadOnlyForOthers();
  EXPECT_NE(ftruncate(memory.fd().get(), 0), 0);
  EXPECT_NE(ftruncate(memory.fd().get(), 1 << 20), 0);
  EXPECT_NE(fallocate(memory.fd().get(), 0, 0, 1 << 20), 0);
  EXPECT_EQ(SealedMemoryBytes(memory.fd().get()).value(), kBytes);
}

// A peer must not be able to forbid operations that later hosts need.
TEST(SharedMemory, SealedForGoodTakesNoMoreSeals) {
  auto memory = SharedMemory::Create("test-region", kBytes);
  ASSERT_TRUE(memory->SealAgainstResize().ok());
  ASSERT_TRUE(memory->SealForGood().ok());
  EXPECT_NE(fcntl(memory->fd().get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
  EXPECT_FALSE(memory->SealAgainstNewWriters().ok());
  EXPECT_TRUE(SharedMemory::MapChecked(Copy(*memory), kBytes, SharedMemory::Access::kReadWrite,
                                       kResizeSeals)
                  .ok());
}

// A process that holds the descriptor and a read-only mapping of the region, and tries to write to
// it. Runs in a child, so that an attempt that succeeds can't help another. Returns the attempt
// that succeeded; the parent also checks the bytes.
#define REFUSED(what, condition)                   \
  do {                                             \
    if (!(condition)) return "got through: " what; \
  } while (false)

std::string TryEveryWayToWrite(int fd, std::byte* view) {
  const std::string own_path = "/proc/self/fd/" + std::to_string(fd);
  auto writable_map = [](int descriptor) {
    return mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  };
  REFUSED("a new writable mapping", writable_map(fd) == MAP_FAILED);
  REFUSED("a write-only mapping",
          mmap(nullptr, kBytes, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  REFUSED("a validated mapping",
          mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE, fd, 0) == MAP_FAILED);
  REFUSED("a fixed mapping over the view",
          mmap(view, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED);
  REFUSED("mprotect", mprotect(view, kBytes, PROT_READ | PROT_WRITE) != 0);
  REFUSED("mprotect to write-only", mprotect(view, 4096, PROT_WRITE) != 0);

  // Another mapping, in case only the first was made unchangeable.
  void* second = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd, 0);
  if (second == MAP_FAILED) return "cannot map read-only";
  REFUSED("mprotect of a second mapping", mprotect(second, kBytes, PROT_READ | PROT_WRITE) != 0);
  void* moved = mremap(second, kBytes, kBytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr);
  if (moved != MAP_FAILED) {
    REFUSED("mprotect after mremap", mprotect(moved, kBytes, PROT_READ | PROT_WRITE) != 0);
  }
  // Old size 0 duplicates a shared mapping.
  moved = mremap(second, 0, kBytes, MREMAP_MAYMOVE, nullptr);
  if (moved != MAP_FAILED) {
    REFUSED("mprotect after a duplicating mremap",
            mprotect(moved, kBytes, PROT_READ | PROT_WRITE) != 0);
  }

  // The mode may change or not; neither must help.
  (void)fchmod(fd, 0777);
  (void)fchown(fd, getuid(), getgid());
  for (const int mode : {O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_RDWR | O_APPEND}) {
    const int again = open(own_path.c_str(), mode | O_CLOEXEC);
    if (again < 0) continue;
    REFUSED("a mapping of the file opened again", writable_map(again) == MAP_FAILED);
    REFUSED("write to the file opened again", pwrite(again, "x", 1, 0) < 0);
    REFUSED("truncation of the file opened again", ftruncate(again, 0) != 0);
    close(again);
  }
  REFUSED("write", pwrite(fd, "x", 1, 0) < 0);
  iovec vector = {const_cast<char*>("x"), 1};
  REFUSED("writev", pwritev(fd, &vector, 1, 0) < 0);
  REFUSED("a hole", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0);
  REFUSED("a zeroed range", fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096) != 0);
  REFUSED("MADV_REMOVE", madvise(view, 4096, MADV_REMOVE) != 0);
  REFUSED("F_SEAL_WRITE, which would stop the shim", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0);
  {
    int pipe_ends[2];
    if (pipe(pipe_ends) != 0 || write(pipe_ends[1], "x", 1) != 1) return "cannot make a pipe";
    loff_t offset = 0;
    REFUSED("splice", splice(pipe_ends[0], nullptr, fd, &offset, 1, SPLICE_F_NONBLOCK) < 0);
  }

  // Past the page protection, as a debugger writes.
  const UniqueFd memory(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  if (memory.valid()) {
    REFUSED("/proc/self/mem", pwrite(memory.get(), "x", 1,
                                     static_cast<off_t>(reinterpret_cast<uintptr_t>(view))) < 0);
  }
  iovec local = {const_cast<char*>("x"), 1};
  iovec remote = {view, 1};
  REFUSED("process_vm_writev", process_vm_writev(getpid(), &local, 1, &remote, 1, 0) < 0);
  // The kernel writes to memory for the process.
  const UniqueFd zero(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  REFUSED("read into the view", read(zero.get(), view, 1) < 0);

  // A private copy is allowed: no other process sees it.
  void* private_copy = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  if (private_copy != MAP_FAILED) std::memset(private_copy, 0xff, kBytes);
  return "";
}

class SealedRegion : public ::testing::Test {
 protected:
  // Runs `attack` in a child; its result comes back through a pipe.
  template <typename Attack>
  std::string InChild(Attack attack) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    if (child == 0) {
      const std::string answer = attack();
      const ssize_t written = write(ends[1], answer.data(), answer.size());
      _exit(written == static_cast<ssize_t>(answer.size()) ? 0 : 1);
    }
    close(ends[1]);
    std::string answer;
    char buffer[256];
    ssize_t count;
    while ((count = read(ends[0], buffer, sizeof(buffer))) > 0) {
      answer.append(buffer, static_cast<size_t>(count));
    }
    close(ends[0]);
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    return answer;
  }
};

TEST_F(SealedRegion, TheDescriptorGivesNoWayToWrite) {
  SharedMemory memory = ReadOnlyForOthers();
  memory.data()[0] = std::byte{'a'};
  const std::string answer = InChild([&]() -> std::string {
    // What a host has: the descriptor and a read-only mapping from MapChecked. The inherited
    // writable mapping is the shim's own and not part of the attack.
    auto view = SharedMemory::MapChecked(Copy(memory), kBytes, SharedMemory::Access::kReadOnly,
                                         kResizeSeals | F_SEAL_FUTURE_WRITE);
    if (!view.ok()) return std::string(view.status().message());
    return TryEveryWayToWrite(view->fd().get(), view->data());
  });
  EXPECT_EQ(answer, "");
  EXPECT_EQ(memory.data()[0], std::byte{'a'});
  for (size_t i = 1; i < kBytes; ++i) ASSERT_EQ(memory.data()[i], std::byte{0});
}

// Shows that the test above can fail: without the seal the first attempts succeed.
TEST_F(SealedRegion, WithoutTheSealTheSameAttemptsSucceed) {
  auto memory = SharedMemory::Create("test-region", kBytes);
  ASSERT_TRUE(memory->SealAgainstResize().ok());
  const std::string answer = InChild([&]() -> std::string {
    auto view = SharedMemory::MapChecked(Copy(*memory), kBytes, SharedMemory::Access::kReadOnly,
                                         kResizeSeals);
    if (!view.ok()) return std::string(view.status().message());
    return TryEveryWayToWrite(view->fd().get(), view->data());
  });
  EXPECT_THAT(answer, HasSubstr("got through"));
}

TEST_F(SealedRegion, TheMappingMadeBeforeStaysWritableAndIsInherited) {
  SharedMemory memory = ReadOnlyForOthers();
  memory.data()[0] = std::byte{1};
  const std::string answer = InChild([&]() -> std::string {
    memory.data()[1] = std::byte{2};
    return "";
  });
  EXPECT_EQ(answer, "");
  EXPECT_EQ(memory.data()[0], std::byte{1});
  EXPECT_EQ(memory.data()[1], std::byte{2});
}

}  // namespace
}  // namespace bulkhead
