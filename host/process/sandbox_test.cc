// SPDX-License-Identifier: Apache-2.0
//
// Each action that is forbidden to a driver, tried from inside the sandbox in a process of its own;
// and the actions that a driver needs.
#include "host/process/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "ipc/sanitizer.h"

namespace bulkhead {
namespace {

constexpr int kSandboxFailed = 100;

// The exit status, as waitpid returns it, of a process that enters the sandbox and calls `act`.
int Inside(const std::function<int()>& act, const SandboxGrants& grants = {},
           uint32_t layers = kSandboxAll) {
  const pid_t child = fork();
  if (child == 0) {
    std::vector<std::string> missing;  // what that means is for the tests of the layer
    if (!EnterSandbox(layers, grants, &missing).ok()) _exit(kSandboxFailed);
    _exit(act());
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

// 0: refused with EPERM or EACCES; 1: it succeeded; 2: another error.
int Refused(long result) {
  if (result >= 0) return 1;
  return errno == EPERM || errno == EACCES ? 0 : 2;
}

class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs a wider filter";
  }
};

// FIONREAD on a pipe is refused unless the transport's list has it.
TEST_F(SandboxTest, AllowsTheTransportsIoctlsAndNoOthers) {
  const auto ask = [] {
    int ends[2];
    int bytes = 0;
    return pipe2(ends, 0) != 0 ? 3 : Refused(ioctl(ends[0], FIONREAD, &bytes));
  };
  const unsigned long asked[] = {FIONREAD};
  const unsigned long others[] = {FIONBIO};
  EXPECT_EQ(Inside(ask), 0 << 8);
  EXPECT_EQ(Inside(ask, {.ioctls = others}), 0 << 8);
  EXPECT_EQ(Inside(ask, {.ioctls = asked}), 1 << 8);
}

TEST_F(SandboxTest, RefusesWhatADriverDoesNotNeed) {
  const struct {
    const char* what;
    std::function<int()> act;
  } kTries[] = {
      {"socket", [] { return Refused(socket(AF_INET, SOCK_STREAM, 0)); }},
      {"unix socket", [] { return Refused(socket(AF_UNIX, SOCK_STREAM, 0)); }},
      {"fork", [] { return Refused(syscall(SYS_fork)); }},
      {"clone of a process", [] { return Refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }},
      {"execve",
       [] {
         char* const words[] = {nullptr};
         return Refused(execve("/bin/true", words, words));
       }},
      {"writing a file", [] { return Refused(open("/dev/null", O_WRONLY)); }},
      {"making a file",
       [] { return Refused(open("/tmp/sandbox-test", O_RDONLY | O_CREAT, 0600)); }},
      {"truncating a file", [] { return Refused(open("/dev/null", O_RDONLY | O_TRUNC)); }},
      {"openat2", [] { return Refused(syscall(SYS_openat2, AT_FDCWD, "/", nullptr, 0)); }},
      {"unlink", [] { return Refused(unlink("/tmp/sandbox-test")); }},
      {"killing another", [] { return Refused(kill(getppid(), 0)); }},
      {"killing all", [] { return Refused(kill(-1, 0)); }},
      {"signals through a descriptor's owner",
       [] {
         int ends[2];
         return pipe2(ends, 0) != 0 ? 3 : Refused(fcntl(ends[0], F_SETOWN, getppid()));
       }},
      {"choosing the signal of a descriptor",
       [] {
         int ends[2];
         return pipe2(ends, 0) != 0 ? 3 : Refused(fcntl(ends[0], F_SETSIG, SIGKILL));
       }},
      {"sealing memory that the next generation needs",
       [] {
         const int memory = memfd_create("sandbox-test", MFD_ALLOW_SEALING);
         return memory < 0 ? 3 : Refused(fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE));
       }},
      {"punching holes in shared memory",
       [] {
         void* memory =
             mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
         if (memory == MAP_FAILED || madvise(memory, 4096, MADV_DONTNEED) != 0) return 3;
         // The kernel uses the lower half of the word only, and so must the filter.
         const long above = MADV_REMOVE | (1L << 32);
         return Refused(madvise(memory, 4096, MADV_REMOVE)) |
                Refused(syscall(SYS_madvise, memory, 4096, above));
       }},
      {"moving a futex's sleepers to another word",
       [] {
         static uint32_t from, to;
         const long above = FUTEX_CMP_REQUEUE | (1L << 32);
         return Refused(syscall(SYS_futex, &from, FUTEX_CMP_REQUEUE, 0, 1, &to, 0)) |
                Refused(syscall(SYS_futex, &from, FUTEX_REQUEUE, 0, 1, &to, 0)) |
                Refused(syscall(SYS_futex, &from, above, 0, 1, &to, 0));
       }},
      {"another's limits",
       [] {
         rlimit limit = {};
         return Refused(prlimit(getppid(), RLIMIT_NOFILE, nullptr, &limit));
       }},
      {"another's CPUs",
       [] {
         cpu_set_t cpus;
         CPU_ZERO(&cpus);
         CPU_SET(0, &cpus);
         return Refused(sched_setaffinity(getppid(), sizeof(cpus), &cpus));
       }},
      {"outliving its parent", [] { return Refused(prctl(PR_SET_PDEATHSIG, 0)); }},
      {"being dumpable again", [] { return Refused(prctl(PR_SET_DUMPABLE, 1)); }},
      {"setuid", [] { return Refused(setuid(1)); }},
      {"chmod", [] { return Refused(chmod("/tmp", 0777)); }},
  };
  for (const auto& attempt : kTries) {
    const int status = Inside(attempt.act);
    EXPECT_TRUE(WIFEXITED(status)) << attempt.what;
    EXPECT_EQ(WEXITSTATUS(status), 0) << attempt.what;
  }
}

TEST_F(SandboxTest, KillsAProcessThatTriesToReadOthers) {
  const struct {
    const char* what;
    std::function<int()> act;
  } kTries[] = {
      {"ptrace", [] { return static_cast<int>(ptrace(PTRACE_ATTACH, getppid(), 0, 0)); }},
      {"process_vm_writev",
       [] { return static_cast<int>(syscall(SYS_process_vm_writev, getppid(), 0, 0, 0, 0, 0)); }},
      {"mount", [] { return mount("x", "/tmp", "tmpfs", 0, nullptr); }},
      {"bpf", [] { return static_cast<int>(syscall(SYS_bpf, 0, 0, 0)); }},
      {"init_module", [] { return static_cast<int>(syscall(SYS_init_module, 0, 0, "")); }},
      {"userfaultfd", [] { return static_cast<int>(syscall(SYS_userfaultfd, 0)); }},
  };
  for (const auto& attempt : kTries) {
    const int status = Inside(attempt.act);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << attempt.what << " " << status;
  }
}

TEST_F(SandboxTest, LetsADriverWork) {
  const int status = Inside([] {
    const int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    char text[64];
    if (file < 0 || read(file, text, sizeof(text)) <= 0) return 1;
    void* memory =
        mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 2;
    if (fcntl(file, F_DUPFD_CLOEXEC, 0) < 0 || fcntl(file, F_GETFL) < 0) return 3;
    rlimit limit = {};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 4;
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0 ||
        sched_setaffinity(0, sizeof(cpus), &cpus) != 0) {
      return 5;
    }
    int answer = 6;
    std::thread worker(
        [&answer] { answer = pthread_setname_np(pthread_self(), "worker") == 0 ? 0 : 7; });
    worker.join();
    return answer;
  });
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

class SandboxFilesTest : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    if (syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION) < 0) {
      GTEST_SKIP() << "this kernel has no Landlock";
    }
    for (const char* folder : {"/granted/below", "/secret"}) {
      std::filesystem::create_directories(top_ + folder);
    }
    for (const std::string& file : {granted_, secret_}) std::ofstream(file) << "text";
    std::filesystem::create_symlink(secret_, top_ + "/granted/link");
  }
  void TearDown() override { std::filesystem::remove_all(top_); }
  // As Refused(), of an open for reading in a sandbox with the folder `granted`.
  int Open(const std::string& path) {
    const std::vector<std::string> readable = {top_ + "/granted", top_ + "/not-there"};
    return Inside([&] { return Refused(open(path.c_str(), O_RDONLY | O_CLOEXEC)); },
                  {.readable = readable}) >>
           8;
  }

  const std::string top_ = testing::TempDir() + "/sandbox-files-" + std::to_string(getpid());
  const std::string granted_ = top_ + "/granted/below/file", secret_ = top_ + "/secret/file";
};

TEST_F(SandboxFilesTest, OpensWhatIsGrantedAndNothingElse) {
  EXPECT_EQ(Open(granted_), 1);
  EXPECT_EQ(Open(top_ + "/granted"), 1) << "a folder, to list it";
  for (const std::string& path :
       {secret_, top_ + "/granted/../secret/file", top_ + "/granted/link", top_,
        std::string("/etc/passwd"), std::string("/etc/shadow"), std::string("/proc/1/environ"),
        std::string("/dev/kmsg"), std::string("/")}) {
    if (access(path.c_str(), F_OK) == 0) {
      EXPECT_EQ(Open(path), 0) << path;
    }
  }
  for (const char* path : {"/proc/self/maps", "/dev/urandom", "/usr/lib", "/lib"}) {
    if (access(path, F_OK) == 0) {
      EXPECT_EQ(Open(path), 1) << path;
    }
  }
}

// A driver reads the files that it is asked about through descriptors, which it is sent.
TEST_F(SandboxFilesTest, DescriptorsAreNotConcernedAndGiveNoNames) {
  const int sent = open(secret_.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(sent, 0);
  const auto read_it = [sent] {
    char byte;
    return pread(sent, &byte, 1, 0) == 1 ? 0 : 1;
  };
  EXPECT_EQ(Inside(read_it), 0);
  EXPECT_EQ(Open("/proc/self/fd/" + std::to_string(sent)), 0) << "opened anew";
  close(sent);
}

// The layer alone: what holds where the kernel has no Landlock.
TEST(SandboxUserTest, OwnsNothingAndReadsNoFileOfRoots) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string path = testing::TempDir() + "/of-root-" + std::to_string(getpid());
  std::ofstream(path) << "secret";
  chmod(path.c_str(), 0640);
  const auto read = [&path] { return Refused(open(path.c_str(), O_RDONLY | O_CLOEXEC)); };
  const auto regain = [] {
    return Refused(setresuid(0, 0, 0)) + 3 * Refused(setresgid(0, 0, 0)) +
           9 * Refused(kill(getppid(), 0));
  };
  constexpr uid_t kUser = 60706;
  const auto ids = [] {
    uid_t real = 0, effective = 0, saved = 0;
    gid_t real_group = 0, effective_group = 0, saved_group = 0;
    const bool known = getresuid(&real, &effective, &saved) == 0 &&
                       getresgid(&real_group, &effective_group, &saved_group) == 0;
    return known && real == kUser && effective == kUser && saved == kUser && real_group == kUser &&
                   effective_group == kUser && saved_group == kUser && geteuid() == kUser
               ? 0
               : 1;
  };
  EXPECT_EQ(Inside(read, {.user = kUser}, kSandboxPrivileges), 0 << 8);
  EXPECT_EQ(Inside(regain, {.user = kUser}, kSandboxPrivileges), 0 << 8);
  EXPECT_EQ(Inside(ids, {.user = kUser}, kSandboxPrivileges), 0 << 8);
  EXPECT_EQ(Inside(read, {}, kSandboxPrivileges), 1 << 8) << "or the test shows nothing";
  std::filesystem::remove(path);
}

TEST(SandboxUserTest, HasAThousandThreadsAndNoMore) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  if (kSanitized) GTEST_SKIP() << "a sanitizer's threads need more room than there is";
  const auto start_them = [] {
    pthread_attr_t small;
    if (pthread_attr_init(&small) != 0 || pthread_attr_setstacksize(&small, 65536) != 0) return 2;
    int started = 0;
    pthread_t thread;
    const auto wait = [](void*) -> void* {
      for (;;) pause();
    };
    while (started < 2000 && pthread_create(&thread, &small, wait, nullptr) == 0) ++started;
    return started > 500 && started < 1024 ? 0 : 1;
  };
  EXPECT_EQ(Inside(start_them, {.user = 61183}, kSandboxPrivileges | kSandboxLimits), 0 << 8);
}

// The kernel forgets that with a change of ids.
TEST(SandboxUserTest, EndsWithItsParent) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  int alive[2];
  ASSERT_EQ(pipe2(alive, O_CLOEXEC), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) _exit(1);
    if (fork() == 0) {
      std::vector<std::string> missing;
      if (!EnterSandbox(kSandboxPrivileges, {.user = 60706}, &missing).ok()) _exit(2);
      (void)!write(ready[1], "r", 1);
      for (;;) pause();
    }
    char byte = 0;
    _exit(read(ready[0], &byte, 1) == 1 ? 0 : 3);
  }
  close(alive[1]);
  int status = -1;
  waitpid(parent, &status, 0);
  EXPECT_EQ(status, 0);
  char byte = 0;
  EXPECT_EQ(read(alive[0], &byte, 1), 0) << "its descriptor is closed when it has ended";
  close(alive[0]);
}

TEST_F(SandboxTest, AbortStillAborts) {
  const int status = Inside([]() -> int { abort(); });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
}

}  // namespace
}  // namespace bulkhead
