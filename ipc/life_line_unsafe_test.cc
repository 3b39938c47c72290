// SPDX-License-Identifier: Apache-2.0
#include "ipc/life_line_unsafe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "ipc/abi/atomics.h"
#include "ipc/futex.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kSoonNs = 20 * kNanosecondsPerSecond;

// A process with threads that hold lines, and report it.
class Holder {
 public:
  Holder(const LifeLine& line, uint32_t threads) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd out(ends[0]);
    UniqueFd in(ends[1]);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      auto held = LifeLine::Attach(UniqueFd(fcntl(line.fd().get(), F_DUPFD_CLOEXEC, 3)));
      if (!held.ok()) _exit(1);
      for (uint32_t thread = 0; thread < threads; ++thread) {
        std::thread([&held, &in, thread] {
          if (held->Hold(thread).ok()) (void)!write(in.get(), "", 1);
          for (;;) pause();
        }).detach();
      }
      for (;;) pause();
    }
    in.reset();
    char byte;
    for (uint32_t thread = 0; thread < threads; ++thread) EXPECT_EQ(read(out.get(), &byte, 1), 1);
  }
  ~Holder() {
    Kill();
    waitpid(pid_, nullptr, 0);
  }
  void Kill() const { kill(pid_, SIGKILL); }

 private:
  pid_t pid_ = -1;
};

// The page, mapped writable a second time, as a host has it.
absl::StatusOr<SharedMemory> MapAgain(const LifeLine& line) {
  return SharedMemory::MapChecked(UniqueFd(fcntl(line.fd().get(), F_DUPFD_CLOEXEC, 3)), 4096,
                                  SharedMemory::Access::kReadWrite, 0);
}

TEST(LifeLine, ReportsTheEndOfAllHolders) {
  auto line = LifeLine::Create();
  ASSERT_TRUE(line.ok()) << line.status();
  const Holder holder(*line, 3);
  bool ended = false;
  std::thread watch([&] { ended = line->WaitForEnds(); });
  holder.Kill();
  watch.join();
  EXPECT_TRUE(ended);
}

TEST(LifeLine, ADeathBeforeTheWaitIsReported) {
  auto line = LifeLine::Create();
  ASSERT_TRUE(line.ok()) << line.status();
  { const Holder holder(*line, LifeLine::kLines); }
  EXPECT_TRUE(line->WaitForEnds());
}

TEST(LifeLine, ThreadsThatEndAreNotEnoughWhileOneHolds) {
  auto line = LifeLine::Create();
  ASSERT_TRUE(line.ok()) << line.status();
  auto page = MapAgain(*line);
  ASSERT_TRUE(page.ok()) << page.status();
  const auto* second_line = reinterpret_cast<uint32_t*>(page->data() + BH_CACHE_LINE);
  std::thread([&] { ASSERT_TRUE(line->Hold(0).ok()); }).join();
  std::atomic<bool> held = false, leave = false;
  std::thread other([&] {
    EXPECT_TRUE(line->Hold(1).ok());
    held.store(true);
    held.notify_one();
    leave.wait(false);
  });
  held.wait(false);
  bool ended = false, waits = false;
  std::thread watch([&] { ended = line->WaitForEnds(); });
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
  while (!waits && MonotonicNowNs() < until_ns) {
    waits = (bh_load_acquire(second_line) & FUTEX_WAITERS) != 0;
    std::this_thread::yield();
  }
  leave.store(true);
  leave.notify_one();
  other.join();
  watch.join();
  EXPECT_TRUE(waits);
  EXPECT_TRUE(ended);
}

TEST(LifeLine, CutEndsAWaitAndThoseToCome) {
  auto line = LifeLine::Create();
  ASSERT_TRUE(line.ok()) << line.status();
  const Holder holder(*line, 2);
  bool ended = true;
  std::thread watch([&] { ended = line->WaitForEnds(); });
  line->Cut();
  watch.join();
  EXPECT_FALSE(ended);
  EXPECT_FALSE(line->WaitForEnds());
}

// A host may move the waiter at its line to another word (FUTEX_CMP_REQUEUE), where the kernel's
// wake-up finds no waiter.
TEST(LifeLine, CutEndsAWaitThatWasMovedAway) {
  auto line = LifeLine::Create();
  ASSERT_TRUE(line.ok()) << line.status();
  const Holder holder(*line, 1);
  auto page = MapAgain(*line);
  ASSERT_TRUE(page.ok()) << page.status();
  auto* word = reinterpret_cast<uint32_t*>(page->data());
  bool ended = true;
  std::thread watch([&] { ended = line->WaitForEnds(); });
  const auto moved = [&] {
    return syscall(SYS_futex, word, FUTEX_CMP_REQUEUE, 0, 1, word + 512, bh_load_acquire(word));
  };
  while (moved() <= 0) std::this_thread::yield();
  line->Cut();
  watch.join();
  EXPECT_FALSE(ended);
}

TEST(LifeLine, LinesThatAreNotHeldReportNothing) {
  auto line = LifeLine::Create();
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_FALSE(line->WaitForEnds());
}

// A host may send the waiter any number of spurious wakes.
TEST(LifeLine, SpuriousWakesEndTheWait) {
  auto line = LifeLine::Create();
  ASSERT_TRUE(line.ok()) << line.status();
  const Holder holder(*line, 1);
  auto page = MapAgain(*line);
  ASSERT_TRUE(page.ok()) << page.status();
  auto* word = reinterpret_cast<uint32_t*>(page->data());
  std::atomic<bool> done = false;
  bool ended = true;
  std::thread watch([&] {
    ended = line->WaitForEnds();
    done.store(true);
  });
  while (!done.load()) FutexWake(word, FutexScope::kShared, 1);
  watch.join();
  EXPECT_FALSE(ended);
}

TEST(LifeLine, OnlyAPageOfItsOwnKindIsAttached) {
  EXPECT_EQ(LifeLine::Attach(UniqueFd()).status().code(), absl::StatusCode::kInvalidArgument);
  auto larger = SharedMemory::Create("larger", 8192);
  ASSERT_TRUE(larger.ok() && larger->SealAgainstResize().ok());
  EXPECT_EQ(
      LifeLine::Attach(UniqueFd(fcntl(larger->fd().get(), F_DUPFD_CLOEXEC, 3))).status().code(),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace bulkhead
