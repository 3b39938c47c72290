// SPDX-License-Identifier: Apache-2.0
//
// The command line as an operator uses it: what it says, its exit codes, and that it leaves nothing
// behind.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "host/supervisor/host_user.h"
#include "host/supervisor/instance.h"
#include "ipc/monotonic.h"
#include "ipc/sanitizer.h"
#include "ipc/unique_fd.h"
#include "tests/testing/cli_fixture.h"
#include "tests/testing/send_signal.h"
#include "tests/testing/stopped_process.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(Cli, HelpSaysWhatThereIs) {
  const Outcome help = Run("--help");
  EXPECT_EQ(help.code, 0);
  for (const char* command : {"run", "scan", "status", "content", "stop", "release", "reload",
                              "events", "check-config", "doctor", "eject"}) {
    EXPECT_THAT(help.text, HasSubstr(command));
    EXPECT_EQ(Run(std::string(command) + " --help").code, 0) << command;
  }
  EXPECT_EQ(Run("").code, 2);
  EXPECT_EQ(Run("no-such-command").code, 2);
}

TEST_F(Cli, HelpShowsTheDefaults) {
  for (const char* command : {"run", "scan"}) {
    const std::string help = Run(std::string(command) + " --help").text;
    for (const char* option :
         {"--deadline TIME=5s ", "--cache UINT=0 ", "--on-absent ANSWER=hold,allow",
          "--on-crashed ANSWER=hold,allow", "--on-hung ANSWER=hold,allow",
          "--on-full ANSWER=hold,allow", "--on-poison ANSWER=deny"}) {
      EXPECT_THAT(help, HasSubstr(option)) << command;
    }
  }
  EXPECT_THAT(Run("run --help").text, HasSubstr("--events LIST:{open,exec,access}=open,exec "));
}

// What only tests need is in programs of their own, tests/storm.
TEST_F(Cli, HasNothingThatOnlyTestsNeed) {
  EXPECT_EQ(Run("demo").code, 2);
  EXPECT_EQ(Run("storm embedded --calls 1 --kills 1").code, 2);
  const Outcome endless = Run("run --driver null --unlimited-restarts --guard " + files_);
  EXPECT_EQ(endless.code, 2);
  EXPECT_THAT(endless.text, HasSubstr("--unlimited-restarts"));
  for (const char* command : {"", "run", "scan", "status", "content", "release", "stop", "eject"}) {
    EXPECT_THAT(Run(std::string(command) + " --help").text, Not(ContainsRegex("test|storm")))
        << command;
  }
}

TEST_F(Cli, ScanSaysCleanFoundAndTrouble) {
  EXPECT_EQ(Run("scan --driver scanner " + files_).code, 0);
  Infect();
  const Outcome found = Run("scan --driver scanner " + files_);
  EXPECT_EQ(found.code, 1);
  EXPECT_THAT(found.text, HasSubstr("FOUND    " + files_ + "/infected: eicar_test_file\n"));
  const Outcome trouble = Run("scan --driver scanner " + files_ + " " + folder_ + "/nothing");
  EXPECT_EQ(trouble.code, 2);
  EXPECT_THAT(trouble.text, HasSubstr("No such file"));
}

// What it could not look at may be anything: that is never "clean".
TEST_F(Cli, ScanOfWhatCanNotBeLookedAtIsTrouble) {
  if (!OrdinaryCanRun()) GTEST_SKIP() << "another user can't reach the build folder";
  const std::string listed = files_ + "/listed";
  fs::create_directories(listed);
  std::ofstream(listed + "/file") << "x\n";
  fs::permissions(listed, fs::perms::owner_all | fs::perms::others_read);  // and no search
  const Outcome unsearchable = RunAs(Ordinary(), "scan --driver null " + files_);
  fs::permissions(listed, fs::perms::all);
  if (Ordinary() != geteuid()) {
    EXPECT_EQ(unsearchable.code, 2) << unsearchable.text;
    EXPECT_THAT(unsearchable.text, HasSubstr("listed/file: can't look at it: Permission denied"));
    EXPECT_THAT(unsearchable.text, HasSubstr("not everything was scanned"));
  }
  // Deeper than any path may be long.
  const std::string name(200, 'd');
  UniqueFd folder(open(files_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int depth = 0; depth < 25; ++depth) {
    ASSERT_EQ(mkdirat(folder.get(), name.c_str(), 0755), 0) << depth;
    folder.reset(openat(folder.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(folder.valid());
  }
  const Outcome deep = Run("scan --driver null " + files_);
  EXPECT_EQ(deep.code, 2) << deep.text;
  EXPECT_THAT(deep.text, HasSubstr("File name too long"));
}

TEST_F(Cli, ScanLooksThroughALinkThatIsNamed) {
  Infect();
  fs::create_symlink(files_ + "/infected", folder_ + "/link");
  fs::create_symlink(files_, folder_ + "/links");
  EXPECT_EQ(Run("scan --driver scanner " + folder_ + "/link").code, 1);
  EXPECT_EQ(Run("scan --driver scanner " + folder_ + "/links").code, 1);
  fs::create_symlink(folder_ + "/nothing", folder_ + "/dangling");
  EXPECT_EQ(Run("scan --driver scanner " + folder_ + "/dangling").code, 2);
}

// The driver's copy of the rules, which hold the very strings that they look for, lies in there.
TEST_F(Cli, ScanDoesNotFindItsOwnRules) {
  if (!OrdinaryCanRun()) GTEST_SKIP() << "another user can't reach the build folder";
  const Outcome own = RunAs(Ordinary(), "scan --driver scanner " + temporary_);
  EXPECT_EQ(own.code, 0) << own.text;
}

TEST_F(Cli, ScanSaysWhatIsWrongWithItsRules) {
  const Outcome missing = Run("scan --driver scanner --rules " + folder_ + "/nothing " + files_);
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.text, HasSubstr("no such folder"));
  fs::create_directories(folder_ + "/rules");
  EXPECT_THAT(Run("scan --driver scanner --rules " + folder_ + "/rules " + files_).text,
              HasSubstr("no rules here"));
  std::ofstream(folder_ + "/rules/garbled.yar") << "rule {{{\n";
  const Outcome garbled = Run("scan --driver scanner --rules " + folder_ + "/rules " + files_);
  EXPECT_EQ(garbled.code, 2);
  EXPECT_THAT(garbled.text, HasSubstr("garbled.yar:1"));
}

TEST_F(Cli, DriversThatAreNoneAreRefused) {
  EXPECT_THAT(Run("scan --driver none " + files_).text, HasSubstr("no driver 'none'"));
  fs::create_directories(folder_ + "/driver");
  EXPECT_THAT(Run("scan --driver " + folder_ + "/driver " + files_).text,
              HasSubstr("manifest.json"));
  std::ofstream(folder_ + "/driver/manifest.json") << "[1, 2]";
  const Outcome wrong = Run("scan --driver " + folder_ + "/driver " + files_);
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.text, HasSubstr("must be a JSON object"));
}

TEST_F(Cli, AFullDiskForTheReportIsTrouble) {
  const Outcome full = Run("scan --driver scanner --json /dev/full " + files_);
  EXPECT_EQ(full.code, 2);
  EXPECT_THAT(full.text, HasSubstr("the disk is full"));
}

TEST_F(Cli, OutputThatCanNotBeWrittenIsTrouble) {
  for (const char* words : {"doctor", "--help", "--version", "run --help"}) {
    const Outcome full = Run(std::string(words) + " > /dev/full");
    EXPECT_EQ(full.code, 2) << words;
    EXPECT_THAT(full.text, HasSubstr("can't write to standard output")) << words;
  }
  const Outcome unread = Run("--help > /dev/null");
  EXPECT_EQ(unread.code, 0) << unread.text;
  const Outcome closed = Run("doctor >&-");
  EXPECT_EQ(closed.code, 2) << closed.text;
}

// The files that it opens first must not take the place of what it was started without.
TEST_F(Cli, WithoutStandardDescriptorsItDoesItsWork) {
  for (const char* without : {" <&-", " 2>&-", " <&- 2>&-"}) {
    EXPECT_EQ(Run("scan --driver scanner " + files_ + without).code, 0) << without;
  }
}

TEST_F(Cli, OptionsThatMakeNoSenseAreRefused) {
  EXPECT_EQ(Run("scan --driver scanner --deadline never " + files_).code, 2);
  EXPECT_EQ(Run("scan --driver scanner --on-hung maybe " + files_).code, 2);
  EXPECT_EQ(Run("scan " + files_).code, 2);
  const Outcome mark = Run("run --driver scanner --mark path --guard " + files_);
  EXPECT_EQ(mark.code, 2);
  EXPECT_THAT(mark.text, HasSubstr("--mark"));
}

TEST_F(Cli, DoctorTriesEveryAttachment) {
  const Outcome doctor = Run("doctor");
  const auto works = [&](const char* attachment) {
    return std::regex_search(doctor.text,
                             std::regex(std::string("attachment ") + attachment + " +works"));
  };
  EXPECT_EQ(doctor.code, works("fanotify") || works("module") ? 0 : 1);
  EXPECT_THAT(doctor.text, HasSubstr("attachment embedded    works"));
  EXPECT_THAT(doctor.text, HasSubstr("attachment fanotify"));
  EXPECT_THAT(doctor.text, HasSubstr("attachment module"));
}

TEST_F(CliAsRoot, RunGuardsAnswersStatusAndEndsCleanly) {
  Infect();
  const pid_t service = StartService("--driver scanner --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  EXPECT_TRUE(std::ifstream(files_ + "/clean").good());
  EXPECT_FALSE(std::ifstream(files_ + "/infected").good());
  EXPECT_THAT(Run("status").text, HasSubstr("scanner 1.0.0: serving"));
  const Outcome second = Run("run --driver scanner --guard " + files_);
  EXPECT_EQ(second.code, 2);
  EXPECT_THAT(second.text, HasSubstr("guarded already, by process " + std::to_string(service)));
  EXPECT_EQ(StopService(), 0);
  EXPECT_TRUE(std::ifstream(files_ + "/infected").good()) << "guarded by nobody";
  // Others may run on this machine.
  EXPECT_THAT(Run("status").text, Not(HasSubstr("pid " + std::to_string(service) + ",")));
}

// A file system of the test's own: a mark on the machine's would ask about everybody's files.
class CliMarks : public CliAsRoot {
 protected:
  void SetUp() override {
    CliAsRoot::SetUp();
    if (IsSkipped()) return;
    volume_ = files_ + "/volume";
    again_ = files_ + "/again";
    fs::create_directories(volume_);
    fs::create_directories(again_);
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("bulkhead-test", volume_.c_str(), "tmpfs", 0, "size=1m") != 0) {
      GTEST_SKIP() << "can't mount a file system of its own: " << std::strerror(errno);
    }
    mounted_ = true;
    Infect();
    for (const char* folder : {"/guarded", "/beside"}) {
      fs::create_directories(volume_ + folder);
      fs::copy(files_ + "/infected", volume_ + folder + "/infected");
    }
    ASSERT_EQ(mount(volume_.c_str(), again_.c_str(), nullptr, MS_BIND, nullptr), 0);
  }
  void TearDown() override {
    if (mounted_) {
      umount(again_.c_str());
      EXPECT_EQ(umount(volume_.c_str()), 0) << std::strerror(errno);
    }
    CliAsRoot::TearDown();
  }

  // Which infected files a service with this mark on volume_/guarded refuses.
  std::string Refused(const std::string& mark) {
    const pid_t service = StartService("--driver scanner --quiet --attachment fanotify --mark " +
                                       mark + " --guard " + volume_ + "/guarded");
    if (service <= 0) return "it did not start";
    std::string refused;
    for (const char* folder :
         {"/volume/guarded", "/again/guarded", "/volume/beside", "/again/beside"}) {
      if (!std::ifstream(files_ + folder + "/infected").good())
        refused += std::string(folder) + " ";
    }
    EXPECT_EQ(StopService(), 0);
    return refused;
  }

  std::string volume_;
  std::string again_;  // the same file system, mounted once more
  bool mounted_ = false;
};

TEST_F(CliMarks, AreWhatTheOperatorAsksFor) {
  EXPECT_EQ(Refused("auto"), "/volume/guarded /again/guarded ");
  EXPECT_EQ(Refused("directory"), "/volume/guarded /again/guarded ");
  EXPECT_EQ(Refused("mount"), "/volume/guarded /volume/beside ");
  EXPECT_EQ(Refused("filesystem"), "/volume/guarded /again/guarded /volume/beside /again/beside ");
}

// -1 when there is no such process.
pid_t ParentOf(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(stat, line);
  std::istringstream rest(line.substr(std::min(line.rfind(')') + 1, line.size())));
  char state = 0;
  pid_t parent = -1;
  rest >> state >> parent;
  return parent;
}

TEST_F(CliAsRoot, StatusNamesAnInstanceThatDoesNotAnswer) {
  const pid_t service = StartService("--driver null --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  EXPECT_EQ(Run("status").code, 0);
  ASSERT_TRUE(StopProcess(service, MonotonicAfterNs(20 * kNanosecondsPerSecond)));
  const Outcome stopped = Run("status");
  ASSERT_EQ(SendSignal(service, SIGCONT), 0);
  EXPECT_EQ(stopped.code, 1);
  EXPECT_THAT(stopped.text, HasSubstr("instance " + std::to_string(service) + " does not answer"));
  EXPECT_EQ(Run("status").code, 0);
  EXPECT_EQ(StopService(), 0);
}

// Each instance of the machine counts for --check: only what becomes worse is this one's doing.
TEST_F(CliAsRoot, TheCheckOfTheStatusFailsWhileAGuardIsGone) {
  Infect();
  const pid_t service =
      StartService("--driver scanner --quiet --accept overlays,new-folders --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  const std::string own = "pid " + std::to_string(service) + ",";
  const std::string guards = "guards " + std::filesystem::canonical(files_).string();
  const auto shown = [&](const std::string& words) {
    const Outcome status = Run("status --check");
    const size_t at = status.text.find(own);
    const std::string text = at == std::string::npos ? "" : status.text.substr(at);
    return text.find(guards + ": protection " + words) != std::string::npos &&
           (words != "none" || status.code == 1);
  };
  EXPECT_TRUE(shown("full")) << Run("status --check").text;
  std::filesystem::rename(files_, files_ + "-moved");
  const uint64_t until_ns = MonotonicAfterNs(20 * kNanosecondsPerSecond);
  bool none = false;
  while (!none && MonotonicNowNs() < until_ns) none = shown("none");
  EXPECT_TRUE(none);
  std::filesystem::rename(files_ + "-moved", files_);
  bool full = false;
  while (!full && MonotonicNowNs() < until_ns) full = shown("full");
  EXPECT_TRUE(full);
  EXPECT_FALSE(std::ifstream(files_ + "/infected").good());
  EXPECT_EQ(StopService(), 0);
}

TEST_F(CliAsRoot, AGuardAboutWhoseEventsNoDriverIsAskedProtectsNothing) {
  const pid_t service = StartService(
      "--driver scanner --quiet --accept overlays,new-folders --events access --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  const Outcome status = Run("status --check");
  EXPECT_EQ(status.code, 1);
  const size_t own = status.text.find("pid " + std::to_string(service) + ",");
  ASSERT_NE(own, std::string::npos) << status.text;
  EXPECT_THAT(status.text.substr(own),
              AllOf(HasSubstr("protection none"),
                    HasSubstr("no driver has registered for its events (access)")));
  EXPECT_EQ(StopService(), 0);
}

// The ids in a line of /proc/PID/status.
std::vector<uid_t> IdsOf(pid_t pid, const std::string& line) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::vector<uid_t> ids;
  for (std::string text; std::getline(status, text);) {
    if (!text.starts_with(line)) continue;
    std::istringstream numbers(text.substr(line.size()));
    for (uid_t id; numbers >> id;) ids.push_back(id);
  }
  return ids;
}

// With new content, too, which is a copy that only its driver's hosts can read.
TEST_F(Cli, AHostBelowTheRequiredSandboxLoadsNoDriver) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's runtime needs a wider filter";
  if (!OrdinaryCanRun()) GTEST_SKIP() << "the tree stands in another user's home";
  // Without root it has no user of its own.
  const Outcome refused =
      RunAs(Ordinary(), "scan --driver null --require-sandbox confined " + files_);
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.text, HasSubstr("the sandbox reaches the level basic, and confined is "
                                      "required; it lacks "));
  EXPECT_THAT(refused.text, HasSubstr("own_user: the supervisor is not root"));
  EXPECT_EQ(RunAs(Ordinary(), "scan --driver null --require-sandbox basic " + files_).code, 0);
}

TEST_F(CliAsRoot, TheStatusShowsTheSandboxOfADriver) {
  ASSERT_GT(StartService("--driver null --guard " + files_), 0);
  const std::string json = folder_ + "/status.json";
  const Outcome status = Run("status --json " + json);
  EXPECT_THAT(status.text, ContainsRegex("\n    sandbox (basic|confined|full)\n"));
  std::ifstream file(json);
  const std::string report(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(report, HasSubstr("\"sandbox\""));
  EXPECT_THAT(report, HasSubstr("\"system_calls\""));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(CliAsRoot, HostsAreUsersOfTheirOwn) {
  Infect();
  // The build may lie in a folder that is closed to other users.
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  std::string drivers;
  for (const std::string name : {"scanner", "null"}) {
    std::filesystem::copy(build_ + "/drivers/" + name, folder_ + "/" + name,
                          std::filesystem::copy_options::recursive);
    drivers += "--driver " + folder_ + "/" + name + " ";
  }
  const absl::Status open = IsOpenToOthers(folder_ + "/null");
  if (!open.ok()) GTEST_SKIP() << open;
  const std::string rules = folder_ + "/rules";
  std::filesystem::create_directory(rules);
  std::ofstream(rules + "/clean.yar") << "rule clean { condition: true }";
  std::filesystem::permissions(rules + "/clean.yar", std::filesystem::perms(0600));
  ASSERT_GT(StartService(drivers + "--quiet --attachment fanotify --guard " + files_), 0);
  std::set<uid_t> users;
  for (const char* content : {"", "--rules"}) {
    if (*content != '\0') {
      ASSERT_EQ(Run("content --driver scanner --rules " + rules).code, 0);
    }
    const std::string status = Run("status").text;
    const std::regex host("generation [0-9]+, pid ([0-9]+)");
    int hosts = 0;
    for (std::sregex_iterator it(status.begin(), status.end(), host), end; it != end;
         ++it, ++hosts) {
      const pid_t pid = std::stoi((*it)[1]);
      for (const char* line : {"Uid:", "Gid:"}) {
        const std::vector<uid_t> ids = IdsOf(pid, line);
        ASSERT_EQ(ids.size(), 4u) << line;
        EXPECT_THAT(ids, testing::Each(ids[0])) << line;
        EXPECT_GE(ids[0], kHostUsersFirst) << line;
        EXPECT_LE(ids[0], kHostUsersLast) << line;
      }
      EXPECT_THAT(IdsOf(pid, "Groups:"), testing::IsEmpty());
      users.insert(IdsOf(pid, "Uid:")[0]);
    }
    EXPECT_EQ(hosts, 2) << status;
    EXPECT_EQ(users.size(), 2u) << status;
    EXPECT_EQ(std::ifstream(files_ + "/clean").good(), *content == '\0');
    EXPECT_FALSE(std::ifstream(files_ + "/infected").good() && *content == '\0');
  }
  EXPECT_EQ(StopService(), 0);
}

TEST_F(CliAsRoot, ADescriptorToSayReadyOnHasToBeOpen) {
  const Outcome run = Run("run --driver null --ready-fd 99 --guard " + files_);
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.text, HasSubstr("--ready-fd 99: no such descriptor is open"));
}

TEST_F(CliAsRoot, ALimitDegradesProtectionUntilItIsAccepted) {
  const auto shown = [&](const std::string& accept) {
    const pid_t service =
        StartService("--driver null --quiet --attachment fanotify --guard " + files_ + accept);
    const std::string text = service > 0 ? Run("status").text : "it did not start";
    EXPECT_EQ(StopService(), 0);
    const size_t own = text.find("pid " + std::to_string(service) + ",");
    const size_t guard = own == std::string::npos ? own : text.find("  guards ", own);
    return guard == std::string::npos ? text
                                      : text.substr(guard, text.find("\n  null ", guard) - guard);
  };
  const std::string doctor = Run("doctor").text;
  EXPECT_THAT(doctor, HasSubstr("limit 'new-folders'"));
  const std::string all = shown("");
  EXPECT_THAT(all, HasSubstr("protection degraded"));
  EXPECT_THAT(all, HasSubstr("--accept new-folders"));
  const bool overlays = doctor.find("limit 'overlays'") != std::string::npos;
  EXPECT_EQ(all.find("--accept overlays") != std::string::npos, overlays) << all;
  EXPECT_THAT(shown(" --accept overlays"), HasSubstr("--accept new-folders"));
  EXPECT_THAT(shown(" --accept overlays,new-folders"), HasSubstr("protection full"));
  EXPECT_THAT(shown(" --mark mount --accept overlays"), HasSubstr("--accept mount-copies"));
  EXPECT_EQ(Run("run --driver null --accept nothing --guard " + files_).code, 2);
}

// As a kill -9 leaves it.
void LeaveSocket(const std::string& path) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0)
      << path << ": " << std::strerror(errno);
}

TEST_F(CliAsRoot, AnInstanceRemovesTheSocketsOfTheDead) {
  std::filesystem::create_directories(std::filesystem::path(InstanceSocket(1)).parent_path());
  const pid_t dead = fork();
  if (dead == 0) _exit(0);
  ASSERT_EQ(waitpid(dead, nullptr, 0), dead);
  const std::string of_dead = InstanceSocket(dead), of_living = InstanceSocket(getpid());
  LeaveSocket(of_dead);
  LeaveSocket(of_living);
  const pid_t service = StartService("--driver null --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  EXPECT_FALSE(std::filesystem::exists(of_dead));
  EXPECT_TRUE(std::filesystem::exists(of_living)) << "it may be about to listen";
  EXPECT_EQ(StopService(), 0);
  std::filesystem::remove(of_living);
}

TEST_F(CliAsRoot, StatusFailsWhileTheShimDoesNotAnswer) {
  const pid_t service = StartService("--driver null --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  const Outcome before = Run("status");
  EXPECT_EQ(before.code, 0) << before.text;
  // Status shows every instance of this machine.
  const size_t own = before.text.find("pid " + std::to_string(service) + ",");
  ASSERT_NE(own, std::string::npos) << before.text;
  const std::string mark = ", shim ";
  const size_t at = before.text.find(mark, own);
  ASSERT_NE(at, std::string::npos) << before.text;
  const pid_t worker = std::stoi(before.text.substr(at + mark.size()));
  ASSERT_GT(worker, 0);
  // The keeper first: it replaces a worker that was stopped.
  const pid_t keeper = ParentOf(worker);
  ASSERT_TRUE(StopProcess(keeper, MonotonicAfterNs(20 * kNanosecondsPerSecond)));
  ASSERT_TRUE(StopProcess(worker, MonotonicAfterNs(20 * kNanosecondsPerSecond)));
  const Outcome stopped = Run("status");
  ASSERT_EQ(SendSignal(worker, SIGCONT), 0);
  ASSERT_EQ(SendSignal(keeper, SIGCONT), 0);
  EXPECT_EQ(stopped.code, 1);
  EXPECT_THAT(stopped.text, HasSubstr("the numbers below are "));
  EXPECT_EQ(Run("status").code, 0);
  EXPECT_EQ(StopService(), 0);
}

// Where memory is short, hosts go before the service and its shim, without which nothing guards.
TEST_F(CliAsRoot, ItsHostsGoFirstWhenMemoryIsShort) {
  const auto score_of = [](pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/oom_score_adj");
    int score = 1;
    file >> score;
    return score;
  };
  const pid_t child = fork();
  if (child == 0) {
    std::ofstream own("/proc/self/oom_score_adj");
    own << "-1000" << std::flush;
    _exit(own.good() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (status != 0 || score_of(getpid()) != 0) {
    GTEST_SKIP() << "this user may not lower its score for the OOM killer, or runs with one";
  }
  const pid_t service = StartService("--driver null --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  EXPECT_EQ(score_of(service), -1000);
  const std::string text = Run("status").text;
  std::smatch found;
  ASSERT_TRUE(std::regex_search(
      text, found,
      std::regex("pid " + std::to_string(service) +
                 ",[^\n]*, shim ([0-9]+) [\\s\\S]*?: serving, generation [0-9]+, pid ([0-9]+)")))
      << text;
  const pid_t worker = std::stoi(found[1]);
  EXPECT_EQ(score_of(worker), -1000) << "the shim's worker";
  EXPECT_EQ(score_of(ParentOf(worker)), -1000) << "the shim's keeper";
  EXPECT_EQ(score_of(std::stoi(found[2])), 0) << "the host";
  EXPECT_EQ(StopService(), 0);
}

// Each host's program is opened under the guard of the other instance, which has no host either.
TEST_F(CliAsRoot, InstancesThatGuardEachOthersProgramsComeBack) {
  namespace fs = std::filesystem;
  pid_t services[2] = {-1, -1};
  for (const std::string name : {"a", "b"}) {
    const fs::path bin = folder_ + "/" + name + "/bin";
    fs::create_directories(bin);
    for (const char* program : {"bulkhead", "bulkhead-host", "bulkhead-shim-fanotify"}) {
      fs::copy_file(build_ + "/bin/" + program, bin / program);
    }
    fs::create_directories(folder_ + "/" + name + "/drivers");
    fs::copy(build_ + "/drivers/null", folder_ + "/" + name + "/drivers/null",
             fs::copy_options::recursive);
  }
  for (int i = 0; i < 2; ++i) {
    const std::string own = folder_ + (i == 0 ? "/a" : "/b"),
                      others = folder_ + (i == 0 ? "/b" : "/a");
    // Longer than a host may take to start.
    services[i] = StartService(
        "--quiet --deadline 300s --driver " + own + "/drivers/null --guard " + others + "/bin",
        fs::relative(own + "/bin/bulkhead", build_ + "/bin").string());
    ASSERT_GT(services[i], 0) << "it did not start";
  }
  // "pid 12, fanotify, up ...", then "null 1.0: serving, generation 1, pid 34, ..."
  const auto host_of = [this](pid_t service) {
    const std::string text = Run("status").text;
    const std::regex host("(?:^|\n)pid " + std::to_string(service) +
                          ",[\\s\\S]*?: serving, generation [0-9]+, pid ([0-9]+)");
    std::smatch found;
    return std::regex_search(text, found, host) ? std::stoi(found[1]) : -1;
  };
  const pid_t hosts[2] = {host_of(services[0]), host_of(services[1])};
  ASSERT_GT(hosts[0], 0);
  ASSERT_GT(hosts[1], 0);
  ASSERT_NE(hosts[0], hosts[1]);
  for (const pid_t service : services)
    ASSERT_TRUE(StopProcess(service, MonotonicAfterNs(20 * kNanosecondsPerSecond)));
  for (const pid_t host : hosts) ASSERT_EQ(SendSignal(host, SIGKILL), 0);
  for (const pid_t service : services) ASSERT_EQ(SendSignal(service, SIGCONT), 0);
  const uint64_t until_ns = MonotonicAfterNs(120 * kNanosecondsPerSecond);
  for (int i = 0; i < 2; ++i) {
    pid_t now = -1;
    while ((now <= 0 || now == hosts[0] || now == hosts[1]) && MonotonicNowNs() < until_ns) {
      now = host_of(services[i]);
    }
    EXPECT_LT(MonotonicNowNs(), until_ns) << Run("status").text;
  }
  EXPECT_EQ(StopService(), 0);
  EXPECT_EQ(StopService(), 0);
}

// A log collector that hangs, a pager, a terminal that was left.
TEST_F(CliAsRoot, StandardErrorThatIsNeverReadHoldsNothingUp) {
  const std::string errors = folder_ + "/errors";
  ASSERT_EQ(mkfifo(errors.c_str(), 0600), 0);
  const UniqueFd pipe(open(errors.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(pipe.valid());
  while (write(pipe.get(), "full\n", 5) > 0) {
  }
  std::ofstream(files_ + "/crash-1") << "x";
  const pid_t service = StartService("--driver faulty --guard " + files_ + " 2>" + errors);
  ASSERT_GT(service, 0) << "it did not start";
  EXPECT_FALSE(UniqueFd(open((files_ + "/crash-1").c_str(), O_RDONLY | O_CLOEXEC)).valid());
  EXPECT_TRUE(UniqueFd(open((files_ + "/clean").c_str(), O_RDONLY | O_CLOEXEC)).valid())
      << "the driver was not restarted";
  const Outcome status = Run("status");
  EXPECT_EQ(status.code, 0) << status.text;
  EXPECT_THAT(status.text, HasSubstr("2 restarts"));
  EXPECT_EQ(StopService(), 0);
}

// How many of these files a process of this user could open, one after the other.
int OpenAs(uid_t user, const std::vector<std::string>& files) {
  const pid_t child = fork();
  if (child == 0) {
    if (setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0) _exit(255);
    int opened = 0;
    for (const std::string& file : files) opened += open(file.c_str(), O_RDONLY | O_CLOEXEC) >= 0;
    _exit(opened);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Of a user without privileges: in a quarantine, what the driver denies would open.
TEST_F(CliAsRoot, AUsersFilesWithoutNumberDoNotGetTheDriverQuarantined) {
  constexpr uid_t kUser = 65534;
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  std::filesystem::permissions(files_, std::filesystem::perms(0755));
  std::vector<std::string> crashes;
  for (int i = 0; i < 12; ++i) {
    crashes.push_back(files_ + "/crash-" + std::to_string(i));
    std::ofstream(crashes.back()) << "x";
    ASSERT_EQ(chown(crashes.back().c_str(), kUser, kUser), 0);
  }
  const std::string bad = files_ + "/deny-this", of_root = files_ + "/of-root";
  std::ofstream(bad) << "x";
  std::ofstream(of_root) << "x";
  const std::string errors = folder_ + "/errors";
  ASSERT_GT(
      StartService("--driver faulty --attachment fanotify --guard " + files_ + " 2>" + errors), 0)
      << "it did not start";
  ASSERT_TRUE(std::ifstream(files_ + "/clean").good()) << "it has answered";
  EXPECT_EQ(OpenAs(kUser, crashes), 0);
  EXPECT_EQ(OpenAs(kUser, {bad}), 0);
  EXPECT_EQ(OpenAs(kUser, {of_root}), 1);
  EXPECT_FALSE(std::ifstream(bad).good());
  EXPECT_TRUE(std::ifstream(of_root).good());
  const std::string status = Run("status").text;
  EXPECT_THAT(status, HasSubstr("serving"));
  // The first host may fall before the opener is known: that counts for another pair.
  EXPECT_THAT(status, testing::AnyOf(HasSubstr(" 6 restarts"), HasSubstr(" 7 restarts")));
  EXPECT_EQ(StopService(), 0);
  std::ifstream log(errors);
  const std::string text(std::istreambuf_iterator<char>(log), {});
  EXPECT_THAT(text, HasSubstr("what user 65534 opens of the files of user 65534 is quarantined"));
  EXPECT_THAT(text, testing::Not(HasSubstr("quarantined: it failed too often")));
}

// As a second Ctrl-C does, and `timeout`, which signals the process and its group.
TEST_F(CliAsRoot, ASecondSignalDoesNotKeepItFromPuttingThingsAway) {
  for (int i = 0; i < 5; ++i) {
    const pid_t service = StartService("--driver scanner --quiet --guard " + files_);
    ASSERT_GT(service, 0) << "it did not start";
    siginfo_t ended = {};
    do {  // until it has ended: a signal that is pending already counts once
      ASSERT_EQ(SendSignal(service, SIGINT), 0);
      ASSERT_EQ(waitid(P_PID, static_cast<id_t>(service), &ended, WEXITED | WNOHANG | WNOWAIT), 0);
    } while (ended.si_pid == 0);
    EXPECT_EQ(StopService(), 0);
    EXPECT_TRUE(std::filesystem::is_empty(temporary_));
  }
}

// A terminal that is closed, job control, an alarm, a limit: what is no request to end ends
// nothing.
TEST_F(CliAsRoot, SignalsThatAreNoRequestToEndItAreIgnored) {
  Infect();
  const pid_t service = StartService("--driver scanner --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  const std::set<int> others = {SIGINT, SIGTERM, SIGQUIT, SIGKILL, SIGSTOP, SIGSEGV,
                                SIGBUS, SIGFPE,  SIGILL,  SIGTRAP, SIGABRT, SIGSYS};
  for (int number = 1; number <= SIGRTMAX; ++number) {
    if (others.count(number) != 0 || (number >= __SIGRTMIN && number < SIGRTMIN)) continue;
    ASSERT_EQ(SendSignal(service, number), 0) << number;
    EXPECT_FALSE(std::ifstream(files_ + "/infected").good()) << "after signal " << number;
  }
  const std::string own = "pid " + std::to_string(service) + ",";
  EXPECT_THAT(Run("status").text, HasSubstr(own));
  EXPECT_EQ(StopService(), 0);
}

TEST_F(CliAsRoot, ARequestToEndDuringTheStartIsCarriedOut) {
  const std::string driver = folder_ + "/driver";
  fs::create_directories(driver + "/content");
  fs::copy(build_ + "/drivers/faulty/faulty.so", driver);
  std::ofstream(driver + "/content/faults") << "hang-start\n";
  std::ofstream(driver + "/manifest.json")
      << R"({"schema": 1, "name": "hangs", "version": "1.0.0", "library": "faulty.so",
             "driver_abi": 1, "callbacks": ["file_open"], "altitude": 500,
             "content": {"required": true, "default_path": "content"}})";
  for (const int number : {SIGINT, SIGTERM, SIGQUIT}) {
    const pid_t service = BeginService("--driver " + driver + " --guard " + files_);
    ASSERT_GT(service, 0);
    siginfo_t ended = {};
    while (!KeepsState(service) && ended.si_pid == 0) {
      ASSERT_EQ(waitid(P_PID, static_cast<id_t>(service), &ended, WEXITED | WNOHANG | WNOWAIT), 0);
    }
    EXPECT_EQ(StopService(number), 2) << number;
    std::ostringstream output;
    output << std::ifstream(folder_ + "/output").rdbuf();
    EXPECT_THAT(output.str(), HasSubstr("interrupted")) << number;
  }
}

// Restarts need the drivers' content: it is not where temporary files are cleaned away.
TEST_F(CliAsRoot, ADriverRestartsAfterTemporaryFilesWereCleanedAway) {
  Infect();
  const pid_t service = StartService("--driver scanner --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  EXPECT_TRUE(fs::is_empty(temporary_));
  EXPECT_TRUE(KeepsState(service));
  for (const auto& entry : fs::directory_iterator(temporary_)) fs::remove_all(entry.path());
  const auto pid_of_host = [&] {
    const std::string text = Run("status").text;
    const size_t own = text.find("pid " + std::to_string(service) + ",");
    const std::string mark = "scanner 1.0.0: serving";
    const size_t at = own == std::string::npos ? own : text.find(mark, own);
    if (at == std::string::npos) return 0;
    return std::stoi(text.substr(text.find(" pid ", at) + 5));
  };
  const pid_t first = pid_of_host();
  ASSERT_GT(first, 0);
  ASSERT_EQ(SendSignal(first, SIGKILL), 0);
  const uint64_t until_ns = MonotonicAfterNs(20 * kNanosecondsPerSecond);
  pid_t second = first;
  while ((second == first || second == 0) && MonotonicNowNs() < until_ns) second = pid_of_host();
  EXPECT_GT(second, 0);
  EXPECT_NE(second, first);
  EXPECT_FALSE(std::ifstream(files_ + "/infected").good());
  EXPECT_EQ(StopService(), 0);
}

TEST_F(CliAsRoot, StopEndsAnInstanceInOrder) {
  Infect();
  const pid_t service = StartService("--driver scanner --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  EXPECT_FALSE(std::ifstream(files_ + "/infected").good());
  const Outcome stop = Run("stop --pid " + std::to_string(service));
  EXPECT_EQ(stop.code, 0) << stop.text;
  EXPECT_TRUE(std::ifstream(files_ + "/infected").good()) << "it has ended when stop returns";
  EXPECT_EQ(StopService(), 0);
  const Outcome again = Run("stop --pid " + std::to_string(service));
  EXPECT_EQ(again.code, 2);
}

}  // namespace
}  // namespace bulkhead
