// SPDX-License-Identifier: Apache-2.0
//
// What the kernel module takes the end of a host for, without a word from its supervisor: the table
// in host_ends.h. Run in a guest that has loaded the module, as the supervisor.
#include <sys/stat.h>

#include <array>

#include "tests/kernel/module_abi/host_ends.h"
#include "tests/kernel/module_abi/module_supervisor.h"

namespace bulkhead {
namespace {

constexpr char kByte = '\n';

std::array<UniqueFd, 2> Pipe() {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

bool ReadByte(const UniqueFd& from) {
  char byte;
  return read(from.get(), &byte, 1) == 1;
}

// A process that has the channel of `host` mapped when this returns.
class PlayedHost {
 public:
  PlayedHost(UniqueFd* host, void (*act)(const std::function<void()>&)) {
    pid_ = fork();
    if (pid_ == 0) Play(host, act);
    EXPECT_GT(pid_, 0);
    host->reset();
    input_[0].reset();
    output_[1].reset();
    EXPECT_TRUE(ReadByte(output_[0]));
  }
  ~PlayedHost() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
  }
  PlayedHost(const PlayedHost&) = delete;
  PlayedHost& operator=(const PlayedHost&) = delete;

  void Go() { EXPECT_EQ(write(input_[1].get(), &kByte, 1), 1); }
  void WaitForByte() { EXPECT_TRUE(ReadByte(output_[0])); }
  void Wait() {
    EXPECT_EQ(waitpid(pid_, nullptr, 0), pid_);
    pid_ = -1;
  }
  void Kill() { EXPECT_EQ(kill(pid_, SIGKILL), 0); }

 private:
  [[noreturn]] void Play(UniqueFd* host, void (*act)(const std::function<void()>&)) {
    dup2(input_[0].get(), STDIN_FILENO);
    dup2(output_[1].get(), STDOUT_FILENO);
    // As a host, it has nothing of its supervisor's.
    for (int fd = STDERR_FILENO + 1; fd < 256; ++fd) {
      if (fd != host->get()) close(fd);
    }
    void* calls = MapCalls(*host);
    void* replies = MapReplies(*host);
    if (calls == MAP_FAILED || replies == MAP_FAILED) _exit(1);
    (void)!write(STDOUT_FILENO, &kByte, 1);
    char byte;
    (void)!read(STDIN_FILENO, &byte, 1);
    act([=] {
      munmap(calls, bh_call_region_bytes(&kGeometry));
      munmap(replies, bh_reply_region_bytes(&kGeometry));
      host->reset();
    });
    _exit(1);
  }

  std::array<UniqueFd, 2> input_ = Pipe();
  std::array<UniqueFd, 2> output_ = Pipe();
  pid_t pid_ = -1;
};

class HostEnds : public testing::TestWithParam<HostEnd> {};

// Known when the process is gone, or has no channel any more: no later, and not only when the last
// copy of its descriptor is closed.
TEST_P(HostEnds, CountAs) {
  const HostEnd& row = GetParam();
  Supervisor supervisor;
  ASSERT_EQ(supervisor.AddChannel(), 0);
  UniqueFd host = supervisor.MakeHost();
  ASSERT_TRUE(host.valid()) << strerror(errno);
  PlayedHost process(&host, row.act);
  supervisor.Begin();
  if (row.asked) {
    ASSERT_EQ(supervisor.Drain(), 0);
  }
  EXPECT_EQ(supervisor.Statistics().last_end, uint32_t{BH_END_NONE});
  process.Go();
  if (row.afterwards == Afterwards::kLives) {
    process.WaitForByte();
  } else {
    process.Wait();
  }
  EXPECT_EQ(supervisor.Statistics().last_end, uint32_t{row.end});
  // It still lives: its supervisor has to learn that, and to end it.
  const bh_module_event event = supervisor.ReadEvent();
  if (row.afterwards == Afterwards::kLives) {
    EXPECT_EQ(event.event, uint32_t{BH_EVENT_HUNG});
    EXPECT_EQ(event.generation, supervisor.added().generation + 1);
  } else {
    EXPECT_EQ(event.event, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Table, HostEnds, testing::ValuesIn(kHostEnds),
                         [](const auto& row) { return std::string(row.param.name); });

// A supervisor kills it for the event. The exit status does not say so.
TEST(HostEnd, AfterAMissedDeadlineItsKillIsAHang) {
  mkdir("/tmp/host-ends", 0755);
  const std::string path = "/tmp/host-ends/file";
  ASSERT_TRUE(UniqueFd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid());
  Supervisor supervisor;
  ASSERT_EQ(supervisor.AddChannel(), 0);
  UniqueFd host = supervisor.MakeHost();
  PlayedHost process(&host, [](const std::function<void()>&) {
    for (;;) pause();
  });
  supervisor.Begin();
  ASSERT_EQ(supervisor.Guard("/tmp/host-ends", kNanosecondsPerSecond / 10), 0);
  const UniqueFd refused(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(refused.valid());
  EXPECT_EQ(supervisor.ReadEvent().event, uint32_t{BH_EVENT_HUNG});
  process.Kill();
  process.Wait();
  EXPECT_EQ(supervisor.Statistics().last_end, uint32_t{BH_END_HUNG});
  EXPECT_EQ(supervisor.EndInOrder(), 0);
}

// What the supervisor says first counts; the kernel's own view comes too late.
TEST(HostEnd, TheSupervisorMayKnowFirst) {
  Supervisor supervisor;
  ASSERT_EQ(supervisor.AddChannel(), 0);
  UniqueFd host = supervisor.MakeHost();
  PlayedHost process(&host, Exit<0>);
  supervisor.Begin();
  EXPECT_EQ(supervisor.End(BH_END_HOSTILE), 0);
  process.Go();
  process.Wait();
  EXPECT_EQ(supervisor.Statistics().last_end, uint32_t{BH_END_HOSTILE});
}

// The OOM killer's choice, in a control group whose memory is used up.
TEST(HostEnd, ByTheOomKillerIsForWantOfMemory) {
  const std::string group = "/sys/fs/cgroup/host-ends";
  const auto say = [](const std::string& file, std::string_view text) {
    const UniqueFd fd(open(file.c_str(), O_WRONLY | O_CLOEXEC));
    return fd.valid() && write(fd.get(), text.data(), text.size()) == ssize_t(text.size());
  };
  if (!say("/sys/fs/cgroup/cgroup.subtree_control", "+memory")) GTEST_SKIP() << "no memory group";
  mkdir(group.c_str(), 0755);
  ASSERT_TRUE(say(group + "/memory.max", "33554432"));
  Supervisor supervisor;
  ASSERT_EQ(supervisor.AddChannel(), 0);
  UniqueFd host = supervisor.MakeHost();
  PlayedHost process(&host, [](const std::function<void()>&) {
    const UniqueFd fd(open("/sys/fs/cgroup/host-ends/cgroup.procs", O_WRONLY | O_CLOEXEC));
    if (write(fd.get(), "0", 1) != 1) _exit(1);
    constexpr size_t kBytes = size_t{64} << 20;
    void* place = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place != MAP_FAILED) memset(place, 1, kBytes);
    _exit(1);
  });
  supervisor.Begin();
  process.Go();
  process.Wait();
  EXPECT_EQ(supervisor.Statistics().last_end, uint32_t{BH_END_STARVED});
  EXPECT_EQ(rmdir(group.c_str()), 0);
}

}  // namespace
}  // namespace bulkhead
