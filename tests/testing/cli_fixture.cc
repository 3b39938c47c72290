// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/cli_fixture.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "host/service/state_folder.h"
#include "host/supervisor/instance.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "ipc/unique_fd.h"
#include "tests/testing/send_signal.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kNobody = 65534;
constexpr int kCanNotBecomeUser = 125;

// "17 (bulkhead-host) S", for each process whose parent is this one.
std::vector<std::string> Children() {
  std::vector<std::string> children;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    std::ifstream file(entry.path() / "stat");
    std::string text;
    std::getline(file, text);
    const size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) continue;
    std::istringstream rest(text.substr(name_end + 1));
    char state = 0;
    pid_t parent = 0;
    rest >> state >> parent;
    if (parent == getpid()) children.push_back(text.substr(0, name_end + 3));
  }
  return children;
}

std::vector<std::string> SharedMemoryOfOurs() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/dev/shm", error)) {
    const std::string name = entry.path().filename().string();
    if (name.find("bulkhead") != std::string::npos) names.push_back(name);
  }
  return names;
}

int CodeOf(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Folders that the process has left. Others may run, and be killed, on this machine.
std::vector<std::string> StateOf(pid_t process, const std::string& state_home) {
  std::vector<std::string> bases = StateBases();
  bases.push_back(state_home + "/bulkhead");
  const std::string prefix = "instance-" + std::to_string(process) + "-";
  std::vector<std::string> folders;
  for (const std::string& base : bases) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(base, error)) {
      if (entry.path().filename().string().starts_with(prefix)) folders.push_back(entry.path());
    }
  }
  return folders;
}

}  // namespace

void Cli::SetUp() {
  // What outlives its parent becomes our child.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  build_ = std::getenv("BULKHEAD_BUILD");
  folder_ = testing::TempDir() + "/cli-" + std::to_string(getpid());
  temporary_ = folder_ + "/tmp";
  files_ = folder_ + "/files";
  fs::create_directories(temporary_);
  fs::permissions(temporary_, fs::perms::all | fs::perms::sticky_bit);
  fs::create_directories(files_);
  std::ofstream(files_ + "/clean") << "nothing to see\n";
}

namespace {

// What outlived its service, and ends, is this process's to wait for.
void ReapOrphans() {
  const uint64_t until_ns = MonotonicAfterNs(10 * kNanosecondsPerSecond);
  for (;;) {
    const pid_t ended = waitpid(-1, nullptr, WNOHANG);
    if (ended < 0 || (ended == 0 && MonotonicNowNs() > until_ns)) return;
    if (ended == 0) poll(nullptr, 0, 5);
  }
}

}  // namespace

void Cli::TearDown() {
  for (const pid_t service : services_) {
    SendSignal(service, SIGKILL);
    CodeOf(service);
    ADD_FAILURE() << "a service was not stopped";
  }
  ReapOrphans();
  const std::vector<std::string> children = Children();
  EXPECT_THAT(children, testing::IsEmpty()) << "processes were left behind";
  for (const std::string& child : children) {
    const pid_t pid = std::stoi(child);
    SendSignal(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  EXPECT_THAT(SharedMemoryOfOurs(), testing::IsEmpty());
  std::error_code error;
  fs::remove(temporary_ + "/bulkhead", error);  // fails when it is not empty
  EXPECT_TRUE(fs::is_empty(temporary_)) << "something was left in its temporary folder";
  struct stat guarded = {};
  ASSERT_EQ(stat(files_.c_str(), &guarded), 0);
  const fs::path lock =
      fs::path(InstanceSocket(0)).parent_path() /
      ("lock-" + std::to_string(guarded.st_dev) + "-" + std::to_string(guarded.st_ino));
  EXPECT_FALSE(fs::exists(lock)) << lock;
  fs::remove_all(folder_);
}

pid_t Cli::Spawn(uid_t user, const std::string& program, const std::string& words,
                 int output) const {
  const std::string command = "exec '" + build_ + "/bin/" + program + "' " + words;
  const pid_t child = fork();
  if (child != 0) return child;
  if (output >= 0) {
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
  }
  setenv("TMPDIR", temporary_.c_str(), 1);
  setenv("XDG_STATE_HOME", temporary_.c_str(), 1);  // root's is /var/lib/bulkhead
  if (user != geteuid() && (setgroups(0, nullptr) != 0 || setresgid(user, user, user) != 0 ||
                            setresuid(user, user, user) != 0)) {
    _exit(kCanNotBecomeUser);
  }
  execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
  _exit(127);
}

Outcome Cli::RunAs(uid_t user, const std::string& words, const std::string& program) {
  Outcome outcome;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return outcome;
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const pid_t child = Spawn(user, program, words, in.get());
  in.reset();
  std::array<char, 4096> part;
  for (ssize_t bytes; (bytes = read(out.get(), part.data(), part.size())) > 0;) {
    outcome.text.append(part.data(), static_cast<size_t>(bytes));
  }
  outcome.code = CodeOf(child);
  EXPECT_FALSE(fs::exists(InstanceSocket(child))) << words;
  EXPECT_THAT(StateOf(child, temporary_), testing::IsEmpty()) << words;
  return outcome;
}

uid_t Cli::Ordinary() const { return geteuid() == 0 ? kNobody : geteuid(); }

pid_t Cli::StartService(const std::string& words, const std::string& program) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return -1;
  const UniqueFd out(ready[0]);
  UniqueFd in(ready[1]);
  fcntl(in.get(), F_SETFD, 0);
  const pid_t service =
      Spawn(geteuid(), program, "run " + words + " --ready-fd " + std::to_string(in.get()), -1);
  in.reset();
  char line;
  if (read(out.get(), &line, 1) != 1) {
    CodeOf(service);
    return -1;
  }
  services_.push_back(service);
  return service;
}

pid_t Cli::Begin(const std::string& program, const std::string& words) {
  const UniqueFd output(
      open((folder_ + "/output").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  services_.push_back(Spawn(geteuid(), program, words, output.get()));
  return services_.back();
}

bool Cli::KeepsState(pid_t process) const { return !StateOf(process, temporary_).empty(); }

void Cli::KillService() {
  if (services_.empty()) return;
  SendSignal(services_.back(), SIGKILL);
  CodeOf(services_.back());
  services_.pop_back();
}

int Cli::StopService(int signal) {
  if (services_.empty()) return -1;
  const pid_t service = services_.back();
  services_.pop_back();
  if (SendSignal(service, signal) != 0) return -1;
  const int code = CodeOf(service);
  EXPECT_FALSE(fs::exists(InstanceSocket(service)));
  EXPECT_THAT(StateOf(service, temporary_), testing::IsEmpty());
  return code;
}

void Cli::Infect() {
  std::ofstream(files_ + "/infected") << "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-"
                                      << "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";
}

void CliAsRoot::SetUp() {
  Cli::SetUp();
  if (kThreadSanitized) {
    GTEST_SKIP()
        << "ThreadSanitizer's runtime does not survive clone(CLONE_FILES) in the shim's keeper";
  }
  if (geteuid() != 0) GTEST_SKIP() << "guards real files: needs root";
  if (Run("doctor").text.find("attachment fanotify    works") == std::string::npos) {
    GTEST_SKIP() << "fanotify permission events do not work here";
  }
}

}  // namespace bulkhead
