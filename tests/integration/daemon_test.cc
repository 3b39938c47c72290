// SPDX-License-Identifier: Apache-2.0
//
// bulkheadd as a service manager and an operator use it: its configuration file, what it says to
// the manager, its reload, its events.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "host/store/descriptor_store.h"
#include "host/supervisor/instance.h"
#include "ipc/control_socket.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "ipc/unique_fd.h"
#include "tests/testing/daemon_fixture.h"
#include "tests/testing/send_signal.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(Daemon, ServesWhatItsConfigurationSays) {
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  EXPECT_TRUE(Opens(files_ + "/clean"));
  EXPECT_FALSE(Opens(files_ + "/infected"));
  const Outcome status = Run("status");
  EXPECT_THAT(status.text, AllOf(HasSubstr("configuration " + config_), HasSubstr(files_)));
  EXPECT_EQ(StopService(), 0);
  EXPECT_EQ(manager_->Await("STOPPING=1"), "STOPPING=1");
  EXPECT_TRUE(Opens(files_ + "/infected"));
  for (const std::string& line : manager_->heard()) EXPECT_THAT(line, Not(HasSubstr("WATCHDOG")));
}

TEST_F(Daemon, AMistakeIsNamedWithItsPlaceAndEndsItWithACodeOfItsOwn) {
  Write("[service]\nlgo = 'text'\n" + Scanner() + GuardOf(files_) + "deadline = 'soon'\n");
  const Outcome outcome = RunProgram("bulkheadd", "--config " + config_);
  EXPECT_EQ(outcome.code, 78);
  EXPECT_THAT(outcome.text, HasSubstr(config_ + ":2:1: unknown key 'service.lgo'"));
  EXPECT_THAT(outcome.text, HasSubstr(config_ + ":8:12: deadline: 'soon' is no time"));
  const Outcome check = Run("check-config " + config_);
  EXPECT_EQ(check.code, 1);
  EXPECT_THAT(check.text, HasSubstr(config_ + ":2:1: "));
  const Outcome none = RunProgram("bulkheadd", "--config " + folder_ + "/none.toml");
  EXPECT_EQ(none.code, 78);
  EXPECT_THAT(none.text, HasSubstr("can't read the configuration"));
}

TEST_F(Daemon, CheckConfigLooksForTheDriversToo) {
  Write("[[driver]]\nname = 'no-such-driver'\n" + GuardOf(files_));
  const Outcome check = Run("check-config --json - " + config_);
  EXPECT_EQ(check.code, 1);
  const nlohmann::json json = nlohmann::json::parse(check.text, nullptr, false);
  ASSERT_TRUE(json.is_object()) << check.text;
  ASSERT_EQ(json["mistakes"].size(), 1u) << check.text;
  EXPECT_THAT(json["mistakes"][0]["text"].get<std::string>(), HasSubstr("no-such-driver"));
  Write(Scanner() + GuardOf(files_));
  EXPECT_EQ(Run("check-config " + config_).code, 0);
}

TEST_F(Daemon, AReloadSetsNewGuardsAndPolicies) {
  Write(Scanner() + GuardOf(files_));
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  EXPECT_TRUE(Opens(more_ + "/infected"));
  Write(Scanner() + "policy.absent = 'deny'\n" + GuardOf(files_) + GuardOf(more_));
  const Outcome reload = Run("reload" + pid_);
  EXPECT_EQ(reload.code, 0) << reload.text;
  EXPECT_FALSE(Opens(more_ + "/infected"));
  EXPECT_FALSE(Opens(files_ + "/infected"));
  EXPECT_THAT(TextOf("Reloaded"), AllOf(HasSubstr("the policy of scanner"), HasSubstr(more_)));
  EXPECT_EQ(manager_->Await("RELOADING=1"), "RELOADING=1");
  EXPECT_EQ(manager_->Await("READY=1"), "READY=1");
  // As a signal, too: and nothing has changed since.
  SendSignal(service, SIGHUP);
  EXPECT_EQ(manager_->Await("RELOADING=1"), "RELOADING=1");
  EXPECT_EQ(manager_->Await("READY=1"), "READY=1");
  EXPECT_EQ(TextOf("Reloaded"), "reload: nothing has changed");
  EXPECT_EQ(StopService(), 0);
}

// What is guarded before and after a reload is denied at each moment of it.
TEST_F(Daemon, AReloadTakesGuardsAwayAndChangesThem) {
  const std::string inner = files_ + "/inner", link = folder_ + "/link";
  fs::create_directory(inner);
  fs::copy(files_ + "/infected", inner + "/infected");
  fs::create_directory_symlink(more_, link);
  Write(Scanner() + GuardOf(files_) + GuardOf(inner) + GuardOf(more_));
  ASSERT_GT(Start(), 0);
  std::atomic<bool> stop{false};
  std::atomic<int> tried{0}, opened{0};
  std::thread opener([&] {
    for (; !stop.load(); ++tried) {
      if (Opens(inner + "/infected")) ++opened;
    }
  });
  const absl::Cleanup join = [&] {
    stop.store(true);
    opener.join();
  };
  const auto reload = [&](const std::string& guards) {
    const int from = tried.load();
    while (tried.load() < from + 3) std::this_thread::yield();
    Write(Scanner() + guards);
    const Outcome outcome = Run("reload" + pid_);
    EXPECT_EQ(outcome.code, 0) << outcome.text;
    EXPECT_EQ(opened.load(), 0) << guards;
  };
  // The inner goes, and then the outer with the inner there again.
  reload(GuardOf(files_) + GuardOf(more_));
  EXPECT_EQ(TextOf("Reloaded"), "reload: no longer guards " + inner);
  reload(GuardOf(inner) + GuardOf(more_) + "deadline = '2s'\n");
  EXPECT_EQ(TextOf("Reloaded"), "reload: guards " + inner + ", the guard of " + more_ +
                                    " has changed (deadline), no longer guards " + files_);
  EXPECT_TRUE(Opens(files_ + "/infected"));
  EXPECT_FALSE(Opens(more_ + "/infected"));
  const nlohmann::json guards = Status()["guards"];
  ASSERT_EQ(guards.size(), 2u) << guards;
  EXPECT_EQ(guards[0]["folder"], inner);
  EXPECT_EQ(guards[1]["folder"], more_);
  // By another name it is the same.
  reload(GuardOf(inner + "/") + GuardOf(link) + "deadline = '2s'\n");
  EXPECT_EQ(TextOf("Reloaded"), "reload: nothing has changed");
  reload(GuardOf(inner) + "events = ['open', 'access']\nmark = 'directory'\n" + GuardOf(more_));
  EXPECT_EQ(TextOf("Reloaded"), "reload: the guard of " + inner +
                                    " has changed (events, mark), the guard of " + more_ +
                                    " has changed (deadline)");
  // A folder that is no longer guarded is another instance's to guard.
  Write("[service]\naccept = ['overlays']\n" + Scanner() + GuardOf(inner) +
        "events = ['open', 'access']\nmark = 'directory'\n");
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_EQ(TextOf("Reloaded"), "reload: the limits that are accepted, no longer guards " + more_);
  EXPECT_TRUE(Opens(more_ + "/infected"));
  EXPECT_TRUE(Instance::Claim({more_}).ok());
  EXPECT_FALSE(Instance::Claim({inner}).ok());
  EXPECT_EQ(opened.load(), 0);
  stop.store(true);
  EXPECT_EQ(StopService(), 0);
}

// While its host is being started again, opens wait, and guards change as ever.
TEST_F(Daemon, GuardsChangeWhileAHostStarts) {
  Write(Scanner() + GuardOf(files_) + GuardOf(more_));
  ASSERT_GT(Start(), 0);
  for (int round = 0; round < 4; ++round) {
    SendSignal(Host(), SIGKILL);
    Write(Scanner() + GuardOf(round % 2 == 0 ? more_ : files_) + "deadline = '20s'\n");
    EXPECT_EQ(Run("reload" + pid_).code, 0);
    EXPECT_EQ(Opens(files_ + "/infected"), round % 2 == 0);
    EXPECT_EQ(Opens(more_ + "/infected"), round % 2 != 0);
  }
  EXPECT_EQ(StopService(), 0);
}

// Its host starts beside the one that serves, and takes over.
TEST_F(Daemon, AReloadGivesADriverOtherOptions) {
  // The driver null denies what has an odd inode, when it is told to.
  std::string odd;
  for (int i = 0; odd.empty() && i < 100; ++i) {
    const std::string file = files_ + "/numbered" + std::to_string(i);
    std::ofstream(file) << "x";
    struct stat object = {};
    ASSERT_EQ(stat(file.c_str(), &object), 0);
    if (object.st_ino % 2 != 0) odd = file;
  }
  ASSERT_FALSE(odd.empty());
  const auto config = [&](const std::string& options) {
    return "[[driver]]\nname = 'null'\noptions = '" + options + "'\ncache = 64\n" + Scanner() +
           GuardOf(files_);
  };
  Write(config("cache"));
  ASSERT_GT(Start(), 0);
  EXPECT_TRUE(Opens(odd));
  EXPECT_TRUE(Opens(odd)) << "as it was remembered";
  const pid_t first = Host();
  const auto reload = [&](const std::string& options) {
    Write(config(options));
    const Outcome outcome = Run("reload" + pid_);
    EXPECT_EQ(outcome.code, 0) << outcome.text;
  };
  reload("cache deny-odd");
  EXPECT_EQ(TextOf("Reloaded"), "reload: the options of null");
  EXPECT_FALSE(Opens(odd)) << "what was remembered of the other options counts no more";
  EXPECT_FALSE(Opens(files_ + "/infected")) << "the other driver is asked as before";
  const pid_t second = Host();
  EXPECT_NE(second, first);
  reload("cache deny-odd");
  EXPECT_EQ(TextOf("Reloaded"), "reload: nothing has changed");
  EXPECT_EQ(Host(), second);
  // The next host, too.
  SendSignal(second, SIGKILL);
  EXPECT_FALSE(Opens(odd));
  reload("cache");
  EXPECT_TRUE(Opens(odd));
  EXPECT_EQ(StopService(), 0);
}

// Each is applied as a whole, behind the other.
TEST_F(Daemon, TwoReloadsAtOnceLeaveWhatTheFileSays) {
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  for (int round = 0; round < 5; ++round) {
    Write(Scanner() + GuardOf(round % 2 == 0 ? more_ : files_));
    Outcome one;
    std::thread other([&] { one = Run("reload" + pid_); });
    const Outcome two = Run("reload" + pid_);
    other.join();
    EXPECT_EQ(one.code, 0) << one.text;
    EXPECT_EQ(two.code, 0) << two.text;
    EXPECT_EQ(Opens(files_ + "/infected"), round % 2 == 0);
    EXPECT_EQ(Opens(more_ + "/infected"), round % 2 != 0);
    EXPECT_EQ(Status()["guards"].size(), 1u);
  }
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Daemon, AReloadPutsContentInForceThatHasChanged) {
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  std::ofstream(files_ + "/marked") << "what the new rule looks for\n";
  EXPECT_TRUE(Opens(files_ + "/marked"));
  std::ofstream(rules_ + "/new.yar")
      << "rule new_rule { strings: $a = \"the new rule looks for\" condition: $a }\n";
  EXPECT_TRUE(Opens(files_ + "/marked")) << "the service has a copy";
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_THAT(TextOf("Reloaded"), HasSubstr("content 2 of scanner"));
  EXPECT_FALSE(Opens(files_ + "/marked"));
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_EQ(TextOf("Reloaded"), "reload: nothing has changed");
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Daemon, WhatIsWrongChangesNothing) {
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  const std::string link = folder_ + "/link", link_target = more_;
  fs::create_symlink(more_, link);
  const struct {
    std::string text;
    std::string why;
  } kWrong[] = {
      {Scanner() + GuardOf(files_) + GuardOf(more_) + "mrak = 'auto'\n",
       "unknown key 'guard.mrak'"},
      {"", "there is none"},
      {Scanner() + GuardOf(more_) + GuardOf(folder_ + "/none"), "can't guard " + folder_ + "/none"},
      {Scanner() + GuardOf(files_) + GuardOf(more_) + GuardOf(link),
       link_target + " is the folder of another guard, under another name"},
      {Scanner() + GuardOf(files_) + GuardOf(more_) + "only = { owner = 7 }\n",
       "owner needs attachment"},
      {Scanner() + "cache = 1024\n" + GuardOf(files_) + GuardOf(more_), "cache of the driver"},
      {"[[driver]]\nname = 'null'\n" + Scanner() + GuardOf(files_) + GuardOf(more_),
       "the driver null is new"},
      {"[service]\nattachment = 'module'\n" + Scanner() + GuardOf(files_) + GuardOf(more_),
       "attachment"},
  };
  for (const auto& wrong : kWrong) {
    Write(wrong.text);
    const Outcome reload = Run("reload" + pid_);
    EXPECT_EQ(reload.code, 1) << wrong.text;
    EXPECT_THAT(reload.text, HasSubstr(wrong.why)) << wrong.text;
    EXPECT_THAT(TextOf("ReloadRefused"), HasSubstr(wrong.why));
    EXPECT_TRUE(Opens(more_ + "/infected")) << wrong.text;
    EXPECT_FALSE(Opens(files_ + "/infected")) << wrong.text;
  }
  // Content that the driver can't load is taken back.
  std::ofstream(rules_ + "/broken.yar") << "rule {\n";
  Write(Scanner() + GuardOf(files_) + GuardOf(more_));
  const Outcome reload = Run("reload" + pid_);
  EXPECT_EQ(reload.code, 1);
  EXPECT_THAT(reload.text, HasSubstr("content of scanner"));
  EXPECT_TRUE(Opens(more_ + "/infected"));
  EXPECT_FALSE(Opens(files_ + "/infected"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Daemon, MembersOfItsGroupsAskIt) {
  if (const std::string why = WhyNoMembers(); !why.empty()) GTEST_SKIP() << why;
  const std::string groups = "[operators]\nreaders = 'games'\nadmins = 'users'\n";
  Write(groups + Scanner() + GuardOf(files_));
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const Outcome status = RunAs(kGames, "status");
  EXPECT_EQ(status.code, 0) << status.text;
  EXPECT_THAT(status.text, HasSubstr(files_));
  EXPECT_EQ(RunAs(kGames, "events" + pid_).code, 0);
  for (const std::string& words :
       {"stop" + pid_, "reload" + pid_, "release --driver scanner" + pid_,
        "content --driver scanner --rules " + rules_ + pid_}) {
    const Outcome refused = RunAs(kGames, words);
    EXPECT_EQ(refused.code, 1) << words;
    EXPECT_THAT(refused.text, HasSubstr("that takes the group 'users' or root")) << words;
  }
  EXPECT_EQ(RunAs(kUsers, "reload" + pid_).code, 0);
  const Outcome stranger = RunAs(65534, "status");
  EXPECT_EQ(stranger.code, 1);
  EXPECT_THAT(stranger.text,
              HasSubstr("that takes the group 'games' or the group 'users' or root"));
  // What is root's alone stays so, also where its name is known.
  for (const std::string& path :
       {InstanceSocket(service), StorePath(RunFolder(), config_), RunFolder()}) {
    EXPECT_TRUE(fs::exists(path)) << path;
    const pid_t child = fork();
    if (child == 0) {
      if (setgroups(0, nullptr) != 0 || setresgid(kUsers, kUsers, kUsers) != 0) _exit(125);
      if (setresuid(kUsers, kUsers, kUsers) != 0) _exit(125);
      _exit(ControlSocket::Connect(path).ok() || open(path.c_str(), O_RDONLY) >= 0 ? 1 : 0);
    }
    int code = -1;
    ASSERT_EQ(waitpid(child, &code, 0), child);
    EXPECT_EQ(code, 0) << path;
  }
  // A group that there is not changes nothing; without groups there is no such socket.
  Write("[operators]\nreaders = 'no-such-group'\n" + Scanner() + GuardOf(files_));
  const Outcome wrong = Run("reload" + pid_);
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.text, HasSubstr(":2:11: readers: there is no group 'no-such-group'"));
  EXPECT_EQ(RunAs(kGames, "status").code, 0);
  Write("[operators]\nreaders = 'users'\n" + Scanner() + GuardOf(files_));
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_THAT(TextOf("Reloaded"), HasSubstr("the groups of operators"));
  EXPECT_EQ(RunAs(kGames, "status").code, 1);
  EXPECT_EQ(RunAs(kUsers, "stop" + pid_).code, 1) << "it is a reader now";
  Write(Scanner() + GuardOf(files_));
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_FALSE(fs::exists(GroupSocket(service)));
  Write(groups + Scanner() + GuardOf(files_));
  EXPECT_EQ(Run("reload" + pid_).code, 0);
  EXPECT_EQ(RunAs(kUsers, "stop" + pid_).code, 0);
  KillService();  // it is a zombie of ours
  EXPECT_FALSE(fs::exists(GroupSocket(service)));
}

TEST_F(Daemon, AnInstanceWithoutAFileHasNothingToReload) {
  const pid_t service = StartService("--driver null --quiet --guard " + files_);
  ASSERT_GT(service, 0);
  const Outcome reload = Run("reload --pid " + std::to_string(service));
  EXPECT_EQ(reload.code, 1);
  EXPECT_THAT(reload.text, HasSubstr("started with options"));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(Daemon, TellsItsWatchdogThatItsLoopTurns) {
  Write(Scanner() + GuardOf(files_));
  setenv("WATCHDOG_USEC", "600000", 1);
  const pid_t service = Start();
  unsetenv("WATCHDOG_USEC");
  ASSERT_GT(service, 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(manager_->Await("WATCHDOG=1"), "WATCHDOG=1");
  EXPECT_EQ(StopService(), 0);
}

// Its table would be lengthened in the middle of an adoption: ipc/descriptor_table.h.
TEST_F(Daemon, ItAndItsShimHaveRoomForTheirDescriptors) {
  Write(Scanner() + GuardOf(files_));
  const pid_t service = Start();
  ASSERT_GT(service, 0);
  const auto length = [](pid_t process) {
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("FDSize:")) return std::stoi(line.substr(7));
    }
    return -1;
  };
  EXPECT_GE(length(service), 1024);
  EXPECT_GE(length(Shim()), 1024);
  EXPECT_EQ(StopService(), 0);
}

// A terminal, with `bulkhead top` at its other end.
class Terminal {
 public:
  Terminal(const std::string& program, unsigned short rows, unsigned short columns) {
    winsize size = {.ws_row = rows, .ws_col = columns};
    process_ = forkpty(&screen_, nullptr, nullptr, &size);
    if (process_ != 0) return;
    setenv("TERM", "xterm", 1);
    // ncurses keeps some of its memory for good (its FAQ, "Testing for memory leaks").
    if (kSanitized) setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    execl(program.c_str(), program.c_str(), "top", nullptr);
    _exit(127);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    if (process_ > 0) {
      SendSignal(process_, SIGKILL);
      waitpid(process_, nullptr, 0);
    }
    close(screen_);
  }
  pid_t process() const { return process_; }
  void Type(char key) { EXPECT_EQ(write(screen_, &key, 1), 1); }
  void Resize(unsigned short rows, unsigned short columns) {
    winsize size = {.ws_row = rows, .ws_col = columns};
    EXPECT_EQ(ioctl(screen_, TIOCSWINSZ, &size), 0);
  }
  // Whether that comes to be drawn.
  bool Shows(const std::string& text) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (drawn_.find(text) == std::string::npos) {
      if (MonotonicNowNs() > until_ns || !Read()) return false;
    }
    drawn_.clear();
    return true;
  }
  // Its exit code, when it has ended.
  int Ended() {
    while (Read()) {
    }
    int status = 0;
    waitpid(process_, &status, 0);
    process_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& drawn() const { return drawn_; }

 private:
  bool Read() {
    pollfd ready = {screen_, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(kSoonNs / kNanosecondsPerMillisecond)) != 1) return false;
    char bytes[4096];
    const ssize_t size = read(screen_, bytes, sizeof(bytes));
    if (size <= 0) return false;
    drawn_.append(bytes, static_cast<size_t>(size));
    return true;
  }

  int screen_ = -1;
  pid_t process_ = -1;
  std::string drawn_;
};

TEST_F(Daemon, TopShowsWhatRunsAndLeavesTheTerminalAsItWas) {
  constexpr char kLeavesTheScreen[] = "\x1b[?1049l";
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  {
    Terminal top(build_ + "/bin/bulkhead", 24, 80);
    EXPECT_TRUE(top.Shows("scanner")) << top.drawn();
    top.Resize(30, 120);
    EXPECT_TRUE(top.Shows("scanner")) << "drawn again";
    top.Resize(2, 10);
    EXPECT_TRUE(top.Shows("q quits"));
    top.Type('q');
    EXPECT_EQ(top.Ended(), 0);
    EXPECT_THAT(top.drawn(), HasSubstr(kLeavesTheScreen));
  }
  {
    Terminal top(build_ + "/bin/bulkhead", 24, 80);
    EXPECT_TRUE(top.Shows("scanner"));
    top.Type('\x03');  // Ctrl-C
    EXPECT_EQ(top.Ended(), 0);
    EXPECT_THAT(top.drawn(), HasSubstr(kLeavesTheScreen));
  }
  EXPECT_EQ(StopService(), 0);
  const Outcome pipe = Run("top");
  EXPECT_EQ(pipe.code, 2);
  EXPECT_THAT(pipe.text, HasSubstr("needs a terminal"));
}

TEST_F(Daemon, EventsSayWhatHappened) {
  Write(Scanner() + GuardOf(files_));
  ASSERT_GT(Start(), 0);
  const std::vector<nlohmann::json> events = Events();
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(events[0]["sequence"], 1);
  // Before it serves, its host may say what the sandbox lacks on this machine.
  const auto serving = std::find_if(events.begin(), events.end(), [](const nlohmann::json& event) {
    return event["event"] == "Serving";
  });
  ASSERT_NE(serving, events.end());
  EXPECT_EQ((*serving)["driver"], "scanner");
  EXPECT_EQ(events.back()["event"], "ServiceReady");
  const Outcome text = Run("events" + pid_);
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.text, HasSubstr("scanner g1"));
  EXPECT_EQ(StopService(), 0);
  EXPECT_EQ(Run("events" + pid_).code, 1) << "it is gone";
}

}  // namespace
}  // namespace bulkhead
