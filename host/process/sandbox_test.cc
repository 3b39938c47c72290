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
           uint32_t layers = BH_LAYERS_ALL) {
  const pid_t child = fork();
  if (child == 0) {
    SandboxReport report;  // what that means is for the tests of the layer
    if (!EnterSandbox(layers, grants, &report).ok()) _exit(kSandboxFailed);
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
  // As Refused(), of an open for reading in a sandbox with the folder `granted`; in the machine's
  // root, where the names of other files are there to be tried.
  int Open(const std::string& path) {
    const std::vector<std::string> readable = {top_ + "/granted", top_ + "/not-there"};
    return Inside([&] { return Refused(open(path.c_str(), O_RDONLY | O_CLOEXEC)); },
                  {.readable = readable}, BH_LAYERS_ALL & ~uint32_t{BH_LAYER_MOUNTS}) >>
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
  EXPECT_EQ(Inside(read, {.user = kUser}, BH_LAYER_PRIVILEGES | BH_LAYER_OWN_USER), 0 << 8);
  EXPECT_EQ(Inside(regain, {.user = kUser}, BH_LAYER_PRIVILEGES | BH_LAYER_OWN_USER), 0 << 8);
  EXPECT_EQ(Inside(ids, {.user = kUser}, BH_LAYER_PRIVILEGES | BH_LAYER_OWN_USER), 0 << 8);
  EXPECT_EQ(Inside(read, {}, BH_LAYER_PRIVILEGES), 1 << 8) << "or the test shows nothing";
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
  EXPECT_EQ(Inside(start_them, {.user = 61183},
                   BH_LAYER_PRIVILEGES | BH_LAYER_OWN_USER | BH_LAYER_LIMITS),
            0 << 8);
}

// The kernel forgets that with a change of ids.
TEST(SandboxUserTest, StillEndsWithItsParent) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  int alive[2];
  ASSERT_EQ(pipe2(alive, O_CLOEXEC), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) _exit(1);
    if (fork() == 0) {
      SandboxReport report;
      prctl(PR_SET_PDEATHSIG,
            SIGKILL);  // as its supervisor asks for; a change of user takes it back
      if (!EnterSandbox(BH_LAYER_PRIVILEGES | BH_LAYER_OWN_USER, {.user = 60706}, &report).ok()) {
        _exit(2);
      }
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

// In a process id namespace of its own, as the supervisor starts a host.
int InNamespace(const std::function<int()>& act) {
  const auto child = static_cast<pid_t>(
      syscall(SYS_clone, SIGCHLD | CLONE_NEWPID, nullptr, nullptr, nullptr, nullptr));
  if (child == 0) _exit(act());
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

// Root has what they need, where the kernel has user namespaces at all.
TEST_F(SandboxTest, EveryLayerIsEnteredAndTested) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const uint32_t wanted = BH_LAYERS_ALL & ~uint32_t{BH_LAYER_RESOURCES};
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const int status = InNamespace([&] {
    SandboxReport report;
    if (!EnterSandbox(BH_LAYERS_ALL, {.user = 60706}, &report).ok()) return kSandboxFailed;
    std::string text = std::to_string(report.layers);
    for (const std::string& lack : report.lacks) text += "; " + lack;
    (void)!write(ends[1], text.data(), text.size());
    return 0;
  });
  ASSERT_EQ(status, 0);
  close(ends[1]);
  std::string text(4096, '\0');
  const ssize_t bytes = read(ends[0], text.data(), text.size());
  close(ends[0]);
  ASSERT_GT(bytes, 0);
  text.resize(static_cast<size_t>(bytes));
  const uint32_t layers = static_cast<uint32_t>(std::stoul(text));
  if ((layers & wanted) != wanted) GTEST_SKIP() << "this machine lacks a layer: " << text;
  EXPECT_EQ(text, std::to_string(wanted) + "; resources: it was given no control group");
}

TEST_F(SandboxTest, WhatIsMissingIsNamedWithItsReason) {
  SandboxReport report;
  ASSERT_TRUE(
      EnterSandbox(
          BH_LAYER_OWN_USER | BH_LAYER_PROCESSES | BH_LAYER_RESOURCES,
          {.user_lacks = "no user", .group_lacks = "no group", .processes_lack = "no namespace"},
          &report)
          .ok());
  EXPECT_EQ(report.layers, 0u);
  EXPECT_EQ(report.lacks,
            (std::vector<std::string>{"resources: no group", "processes: no namespace",
                                      "own_user: no user"}));
}

class SandboxWritesTest : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    std::filesystem::create_directories(top_ + "/granted");
    std::filesystem::create_directories(top_ + "/other");
    for (const char* folder : {"/granted", "/other"}) {
      std::ofstream(top_ + folder + "/file") << "text";
      chmod((top_ + folder).c_str(), 0777);
      chmod((top_ + folder + "/file").c_str(), 0666);
    }
  }
  void TearDown() override { std::filesystem::remove_all(top_); }
  const std::string top_ = testing::TempDir() + "/sandbox-writes-" + std::to_string(getpid());
};

TEST_F(SandboxWritesTest, WritesWhatIsGrantedAndNothingElse) {
  const std::vector<std::string> writable = {top_ + "/granted"};
  const auto work = [this] {
    const std::string in = top_ + "/granted/", out = top_ + "/other/";
    const int made = open((in + "made").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (made < 0 || write(made, "x", 1) != 1 || fsync(made) != 0) return 1;
    if (rename((in + "made").c_str(), (in + "renamed").c_str()) != 0) return 2;
    if (mkdir((in + "folder").c_str(), 0700) != 0 || rmdir((in + "folder").c_str()) != 0) return 3;
    if (unlink((in + "renamed").c_str()) != 0) return 4;
    const int written = open((in + "file").c_str(), O_RDWR | O_TRUNC);
    if (written < 0 || ftruncate(written, 3) != 0) return 5;
    if (open((out + "file").c_str(), O_WRONLY) >= 0) return 6;
    if (open((out + "made").c_str(), O_WRONLY | O_CREAT, 0600) >= 0) return 7;
    if (unlink((out + "file").c_str()) == 0) return 8;
    if (rename((in + "file").c_str(), (out + "moved").c_str()) == 0) return 9;
    if (open((in + "special").c_str(), O_WRONLY | O_CREAT, 04755) >= 0) return 10;
    if (symlink("/etc", (in + "link").c_str()) == 0) return 11;
    if (chmod((in + "file").c_str(), 04755) == 0) return 12;
    return 0;
  };
  const uint32_t all = BH_LAYERS_ALL;
  for (const uint32_t without : {0u, uint32_t{BH_LAYER_MOUNTS}, uint32_t{BH_LAYER_FILES}}) {
    const int status = Inside(work, {.writable = writable, .user = 60706}, all & ~without);
    EXPECT_EQ(status, 0) << "exit code " << (status >> 8) << " without the layers " << without;
  }
  EXPECT_EQ(Inside(work, {.writable = writable, .user = 60706},
                   all & ~uint32_t{BH_LAYER_MOUNTS | BH_LAYER_FILES}),
            kSandboxFailed << 8)
      << "no layer would confine it";
}

TEST_F(SandboxWritesTest, ScratchHasItsSizeAndNoMore) {
  const auto fill = [] {
    const int file = open("/scratch/file", O_WRONLY | O_CREAT, 0600);
    if (file < 0) return 1;
    const std::vector<char> piece(1 << 16, 'x');
    size_t bytes = 0;
    while (bytes < 8 << 20) {
      const ssize_t written = write(file, piece.data(), piece.size());
      if (written <= 0) break;
      bytes += static_cast<size_t>(written);
    }
    if (bytes < 3 << 19 || bytes > 2 << 20) return 2;
    void* code = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    return code == MAP_FAILED ? 0 : 3;
  };
  const int status = Inside(fill, {.scratch_bytes = 2 << 20, .user = 60706});
  if (status == kSandboxFailed << 8) GTEST_SKIP() << "there is no mount namespace here";
  EXPECT_EQ(status, 0) << "exit code " << (status >> 8);
  EXPECT_FALSE(std::filesystem::exists("/scratch")) << "outside there is none";
}

TEST_F(SandboxTest, AnEmptyRootHasWhatIsGrantedByItsOwnName) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string top = testing::TempDir() + "/sandbox-root-" + std::to_string(getpid());
  std::filesystem::create_directories(top + "/real/below");
  std::ofstream(top + "/real/below/file") << "text";
  std::ofstream(top + "/secret") << "text";
  std::filesystem::create_directory_symlink("real", top + "/link");
  const std::vector<std::string> readable = {top + "/link/below", top + "/nowhere"};
  std::vector<std::string> system;
  for (const char* path : {"/usr/lib", "/lib/.", "/dev/urandom", "/proc/self/maps"}) {
    if (access(path, R_OK) == 0) system.emplace_back(path);
  }
  const auto look = [&top, &system] {
    if (access((top + "/link/below/file").c_str(), R_OK) != 0) return 1;
    if (access((top + "/real/below/file").c_str(), R_OK) != 0) return 2;
    if (access((top + "/secret").c_str(), F_OK) == 0) return 3;
    for (const char* path : {"/etc/passwd", "/root", "/home", "/sys/fs", "/usr/bin"}) {
      if (access(path, F_OK) == 0) return 4;
    }
    if (open((top + "/link/below/made").c_str(), O_WRONLY | O_CREAT, 0600) >= 0) return 5;
    for (const std::string& path : system) {
      if (access(path.c_str(), R_OK) != 0) return 6;
    }
    return 0;
  };
  const int status = Inside(look, {.readable = readable}, BH_LAYER_MOUNTS);
  EXPECT_EQ(status, 0) << "exit code " << (status >> 8);
  std::filesystem::remove_all(top);
}

TEST_F(SandboxTest, AbortStillAborts) {
  const int status = Inside([]() -> int { abort(); });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
}

}  // namespace
}  // namespace bulkhead
