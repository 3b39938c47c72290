// SPDX-License-Identifier: Apache-2.0
//
// What an operator, a vendor or a stranger can get wrong: each has its exit code and a message that
// names the thing and says what to do, and nothing is left behind (see the fixture).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "host/supervisor/instance.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/unique_fd.h"
#include "tests/testing/cli_fixture.h"

namespace bulkhead {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class CliBadInput : public Cli {
 protected:
  // `scan --driver FOLDER`, with this driver in it.
  Outcome ScanWith(const std::string& library, int abi) {
    const std::string driver = folder_ + "/driver";
    fs::create_directories(driver);
    std::ofstream(driver + "/manifest.json")
        << R"({"schema": 1, "name": "module", "version": "1", "callbacks": ["file_open"], )"
        << R"("library": ")" << library << R"(", "driver_abi": )" << abi << "}";
    return Run("scan --driver " + driver + " " + files_);
  }
  void AddLibrary(const std::string& name) {
    fs::create_directories(folder_ + "/driver");
    fs::copy_file(build_ + "/test-modules/" + name, folder_ + "/driver/" + name);
  }
};

TEST_F(CliBadInput, DriversThatCanNotBeLoadedSayWhy) {
  AddLibrary("good.so");
  EXPECT_EQ(ScanWith("good.so", 1).code, 0);

  AddLibrary("wrong_abi.so");
  const Outcome wrong_abi = ScanWith("wrong_abi.so", 1);
  EXPECT_EQ(wrong_abi.code, 2);
  EXPECT_THAT(wrong_abi.text,
              AllOf(HasSubstr("driver/wrong_abi.so is built for driver ABI 2, this host has ABI 1"),
                    HasSubstr("build it against this version's <bulkhead/driver.h>")));

  const Outcome wrong_manifest = ScanWith("good.so", 2);
  EXPECT_EQ(wrong_manifest.code, 2);
  EXPECT_THAT(wrong_manifest.text, AllOf(HasSubstr("\"driver_abi\" is 2; this Bulkhead has 1"),
                                         HasSubstr("build the driver against its SDK")));

  AddLibrary("no_entry.so");
  const Outcome no_entry = ScanWith("no_entry.so", 1);
  EXPECT_EQ(no_entry.code, 2);
  EXPECT_THAT(no_entry.text, HasSubstr("driver/no_entry.so has no entry point bulkhead_driver()"));

  std::ofstream(folder_ + "/driver/text.so") << "#!/bin/sh\n";
  const Outcome no_elf = ScanWith("text.so", 1);
  EXPECT_EQ(no_elf.code, 2);
  EXPECT_THAT(no_elf.text, HasSubstr("driver/text.so is not an ELF file"));

  const Outcome missing = ScanWith("missing.so", 1);
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.text, HasSubstr("driver/missing.so: No such file or directory"));
}

// The word that is not known, and not only what is missing because of it.
TEST_F(CliBadInput, MisspeltWordsAreNamed) {
  for (const auto& [line, unknown] :
       {std::pair<std::string, std::string>{"--drver", "--drver"},
        {"run --drivr scanner --guard " + files_, "--drivr scanner"},
        {"run --driver scanner --gaurd " + files_, "--gaurd " + files_},
        {"scan --driver scanner --bogus " + files_, "--bogus"}}) {
    const Outcome wrong = Run(line);
    EXPECT_EQ(wrong.code, 2) << line;
    EXPECT_THAT(wrong.text, AllOf(HasSubstr("not expected: " + unknown), HasSubstr("--help")))
        << line;
  }
  EXPECT_THAT(Run("run --drivr scanner --guard " + files_).text,
              HasSubstr("did you mean \"--driver\"?"));
  const Outcome command = Run("runn");
  EXPECT_EQ(command.code, 2);
  EXPECT_THAT(command.text, AllOf(HasSubstr("'runn' is no command; did you mean \"run\"?"),
                                  HasSubstr("bulkhead --help")));
  EXPECT_THAT(Run("frobnicate").text, HasSubstr("there are run, status"));
  const Outcome missing = Run("run --driver scanner");
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.text, HasSubstr("--guard is required"));
}

TEST_F(CliBadInput, WhatThisUserMayNotSeeIsSaidSo) {
  if (!OrdinaryCanRun()) GTEST_SKIP() << "ordinary users can't reach " << build_;
  const Outcome release = RunAs(Ordinary(), "release --driver scanner");
  EXPECT_EQ(release.code, 2);
  EXPECT_THAT(release.text, HasSubstr("no instance that this user may see runs"));
  const Outcome stop = RunAs(Ordinary(), "stop --pid " + std::to_string(getpid()));
  EXPECT_EQ(stop.code, 2);
  EXPECT_THAT(stop.text, HasSubstr("is no instance that this user may stop"));
}

TEST_F(CliBadInput, UnknownDriversAreRefused) {
  const Outcome unknown = Run("scan --driver none " + files_);
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.text, AllOf(HasSubstr("no driver 'none' in " + build_ + "/drivers"),
                                  HasSubstr("give its folder (./none), or set BULKHEAD_DRIVERS")));
}

// A script whose variable is not set.
TEST_F(CliBadInput, AnEmptyNameIsNoFolderOfContent) {
  for (const std::string line :
       {"content --driver null --rules ''", "run --driver null --rules '' --guard /tmp",
        "scan --driver null --rules '' /tmp"}) {
    const Outcome empty = Run(line);
    EXPECT_EQ(empty.code, 2) << line;
    EXPECT_THAT(empty.text, HasSubstr("--content: an empty name is no folder")) << line;
  }
}

// Drivers see a copy of their content; the message must name the operator's folder.
// A variable of a script that was not set.
TEST_F(CliBadInput, AnEmptyWordIsNoDefault) {
  for (const char* option : {"--cache", "--json", "--ready-fd", "--spin", "--deadline", "--guard",
                             "--driver", "--on-full", "--attach", "--quarantine-retry"}) {
    const Outcome empty = Run(absl::StrCat("run --driver null --guard /tmp ", option, " ''"));
    EXPECT_EQ(empty.code, 2) << option;
    EXPECT_THAT(empty.text, HasSubstr(option));
  }
  EXPECT_EQ(Run("scan --driver null ''").code, 2);
  EXPECT_EQ(Run("status --json ''").code, 2);
  EXPECT_EQ(Run("scan --driver null --driver-options '' " + files_).code, 0);
}

TEST_F(CliBadInput, BadRulesAreNamedWhereTheOperatorHasThem) {
  const std::string rules = folder_ + "/rules";
  fs::create_directories(rules);
  const Outcome none = Run("scan --driver scanner --rules " + rules + " " + files_);
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.text, AllOf(HasSubstr("bulkhead: driver 'scanner' does not start: " + rules +
                                         ": no rules here; expected *.yar, *.yara or *.yarc"),
                               Not(HasSubstr(temporary_))));
  std::ofstream(rules + "/garbled.yar") << "rule {{{\n";
  const Outcome garbled = Run("scan --driver scanner --rules " + rules + " " + files_);
  EXPECT_EQ(garbled.code, 2);
  EXPECT_THAT(garbled.text, AllOf(HasSubstr(rules + "/garbled.yar:1"), Not(HasSubstr(temporary_))));
}

TEST_F(CliBadInput, WhatMayNotBeReadIsNamedAndTheRestIsScanned) {
  if (!OrdinaryCanRun()) GTEST_SKIP() << "ordinary users can't reach " << build_;
  const std::string locked = files_ + "/locked";
  const std::string mine = files_ + "/private";
  fs::create_directories(locked);
  std::ofstream(locked + "/hidden") << "not seen\n";
  std::ofstream(mine) << "not seen\n";
  // For root's files, an ordinary user is somebody else.
  const bool root = geteuid() == 0;
  fs::permissions(locked, root ? fs::perms::owner_all : fs::perms::none);
  fs::permissions(mine, root ? fs::perms::owner_read : fs::perms::none);
  Infect();
  const Outcome scan = RunAs(Ordinary(), "scan --driver scanner " + files_);
  fs::permissions(locked, fs::perms::owner_all);
  EXPECT_EQ(scan.code, 2);
  EXPECT_THAT(scan.text,
              HasSubstr("TROUBLE  " + locked + ": can't list this folder: Permission denied\n"));
  EXPECT_THAT(scan.text, HasSubstr("TROUBLE  " + mine + ": cannot open: Permission denied\n"));
  EXPECT_THAT(scan.text, HasSubstr("FOUND    " + files_ + "/infected: eicar_test_file\n"));
  EXPECT_THAT(scan.text, ContainsRegex("\nfiles +2 "));  // the clean one and the infected one
  EXPECT_THAT(scan.text, HasSubstr("run it as root, or as a user who may read"));
}

TEST_F(CliBadInput, ReportsThatCanNotBeWrittenAreRefusedBeforeTheWork) {
  const std::string scan = "scan --driver scanner " + files_ + " --json ";
  const Outcome missing = Run(scan + folder_ + "/nothing/report.json");
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.text, HasSubstr("there is no folder " + folder_ + "/nothing; make it"));
  EXPECT_THAT(missing.text, Not(HasSubstr("figure")));
  const Outcome folder = Run(scan + files_);
  EXPECT_EQ(folder.code, 2);
  EXPECT_THAT(folder.text, HasSubstr(files_ + " is a folder; name a file in it"));
  for (const char* command : {"status", "doctor", "run --driver scanner --guard ."}) {
    const Outcome other = Run(std::string(command) + " --json " + folder_ + "/nothing/r.json");
    EXPECT_EQ(other.code, 2) << command;
    EXPECT_THAT(other.text, HasSubstr("there is no folder")) << command;
  }
  const std::string report = folder_ + "/report.json";
  fs::create_symlink(report, folder_ + "/link");
  const Outcome link = Run(scan + folder_ + "/link");
  EXPECT_EQ(link.code, 2);
  EXPECT_THAT(link.text, HasSubstr(folder_ + "/link is a symbolic link to nothing"));
  EXPECT_EQ(Run(scan + report).code, 0);
  EXPECT_TRUE(fs::exists(report));
  EXPECT_EQ(Run(scan + folder_ + "/link").code, 0);
  EXPECT_TRUE(fs::is_symlink(folder_ + "/link"));

  if (!OrdinaryCanRun()) GTEST_SKIP() << "ordinary users can't reach " << build_;
  fs::permissions(files_, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read |
                              fs::perms::others_exec);
  const Outcome denied = RunAs(Ordinary(), scan + files_ + "/report.json");
  EXPECT_EQ(denied.code, 2);
  EXPECT_THAT(denied.text, HasSubstr("can't write to " + files_ + " (Permission denied); name "));

  // Where /dev/stdout is a file it is no file in /dev, which ordinary users can't write to.
  const Outcome printed = RunAs(Ordinary(), scan + "/dev/stdout >" + temporary_ + "/printed");
  EXPECT_EQ(printed.code, 0) << printed.text;
  std::ifstream file(temporary_ + "/printed");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(text, ContainsRegex("figure.*\n\\{"));
  EXPECT_TRUE(fs::remove(temporary_ + "/printed"));
  fs::permissions(files_, fs::perms::owner_all);
}

TEST_F(CliBadInput, RunWithoutPrivilegesSaysWhatItNeeds) {
  if (!OrdinaryCanRun()) GTEST_SKIP() << "ordinary users can't reach " << build_;
  const Outcome run = RunAs(Ordinary(), "run --driver scanner --guard " + files_);
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.text, HasSubstr("needs CAP_SYS_ADMIN: run as root, or use `bulkhead scan`"));
}

TEST_F(CliAsRoot, RunSaysWhatItCanNotGuard) {
  const Outcome missing = Run("run --driver scanner --guard " + folder_ + "/nothing");
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.text, HasSubstr("can't guard " + folder_ + "/nothing: No such file or " +
                                      "directory; --guard takes a folder that exists"));
  const Outcome file = Run("run --driver scanner --guard " + files_ + "/clean");
  EXPECT_EQ(file.code, 2);
  EXPECT_THAT(file.text, HasSubstr("can't guard " + files_ +
                                   "/clean: it is not a folder; guard the one that it is in"));
  const Outcome driver = Run("run --driver none --guard " + files_);
  EXPECT_EQ(driver.code, 2);
  EXPECT_THAT(driver.text, HasSubstr("no driver 'none'"));
  fs::create_directories(folder_ + "/rules");
  const Outcome rules = Run("run --driver scanner --rules " + folder_ + "/rules --guard " + files_);
  EXPECT_EQ(rules.code, 2);
  EXPECT_THAT(rules.text, HasSubstr(folder_ + "/rules: no rules here"));
  EXPECT_TRUE(std::ifstream(files_ + "/clean").good()) << "guarded by nobody";
}

// An option that the attachment can't serve is refused before anything is started or guarded.
TEST_F(CliAsRoot, OptionsThatNeedAnotherAttachmentNameIt) {
  for (const char* option : {"--owner 0", "--mode write", "--extensions exe", "--skip-under /"}) {
    const std::string name = std::string(option).substr(0, std::string(option).find(' '));
    const Outcome refused = Run("run --driver null --attachment fanotify " + std::string(option) +
                                " --guard " + files_);
    EXPECT_EQ(refused.code, 2) << option;
    EXPECT_THAT(refused.text, AllOf(HasSubstr("bulkhead: " + name + " needs attachment 'module'"),
                                    HasSubstr("'fanotify' can't "), HasSubstr("bulkhead doctor")));
  }
}

TEST_F(CliBadInput, ValuesThatNoServiceCanHaveAreNamed) {
  const struct {
    const char* words;
    const char* said;
  } kMistakes[] = {
      {"--cache 1000", "--cache: 1000 is not 0 or a power of two"},
      {"--require-sandbox most",
       "'most' is not a level of the sandbox (none, basic, confined, full)"},
      {"--driver null", "--driver: 'null' is given twice"},
      {"--events open,close", "close"},
      {"--extensions .exe", "--extensions: '.exe' is not the end of a name"},
      {"--skip-under /no/folder", "can't skip /no/folder"},
      {"--attachment nothing", "nothing"},
      {"--deadline 0s", "'0s' is no time"},
  };
  for (const auto& mistake : kMistakes) {
    const Outcome refused =
        Run("run --driver null " + std::string(mistake.words) + " --guard " + files_);
    EXPECT_EQ(refused.code, 2) << mistake.words;
    EXPECT_THAT(refused.text, HasSubstr(mistake.said));
  }
}

TEST_F(CliBadInput, StopNamesWhatIsNoProcessId) {
  for (const char* value : {"abc", "0", "12abc", "99999999999"}) {
    const Outcome refused = Run("stop --pid " + std::string(value));
    EXPECT_EQ(refused.code, 2) << value;
    EXPECT_THAT(refused.text, HasSubstr("--pid: '" + std::string(value) +
                                        "' is not a process id, as `bulkhead status` shows"));
  }
}

UniqueFd Connect(const std::string& path) {
  UniqueFd peer(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const timeval bound = {.tv_sec = 20, .tv_usec = 0};
  if (setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound)) != 0 ||
      connect(peer.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    peer.reset();
  }
  return peer;
}

// Sends one datagram, with /dev/null as often as asked; returns the length of the answer, 0 when
// the service only closes the connection, and -1 when it does neither.
ssize_t Exchange(const std::string& path, absl::Span<const uint8_t> bytes, size_t descriptors = 0) {
  const UniqueFd peer = Connect(path);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!peer.valid() || !null.valid()) return -1;
  iovec part = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  std::vector<int> sent(descriptors, null.get());
  std::vector<char> control(CMSG_SPACE(sent.size() * sizeof(int)));
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptors != 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sent.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), sent.data(), sent.size() * sizeof(int));
  }
  if (sendmsg(peer.get(), &message, MSG_NOSIGNAL) < 0) return -1;
  std::array<uint8_t, 4096> answer;
  ssize_t answered = 0;
  for (;;) {  // to the end: then the service has closed its side
    const ssize_t received = recv(peer.get(), answer.data(), answer.size(), 0);
    if (received == 0 || (received < 0 && errno == ECONNRESET)) return answered;
    if (received < 0) return -1;
    answered = received;
  }
}

ssize_t Exchange(const std::string& path, const ControlBuffer& message) {
  return Exchange(path, {message.data(), message.size()});
}

ptrdiff_t OpenDescriptors(pid_t process) {
  return std::distance(fs::directory_iterator("/proc/" + std::to_string(process) + "/fd"), {});
}

TEST_F(CliAsRoot, NonsenseOnItsSocketDoesNotDisturbAService) {
  const pid_t service = StartService("--driver scanner --quiet --guard " + files_);
  ASSERT_GT(service, 0) << "it did not start";
  const std::string path = InstanceSocket(service);
  const ControlBuffer request = MakeGetStatus();
  ASSERT_GT(Exchange(path, request), 0);
  const ptrdiff_t descriptors = OpenDescriptors(service);

  const std::vector<uint8_t> good(request.data(), request.data() + request.size());
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    EXPECT_EQ(Exchange(path, absl::MakeSpan(good.data(), bytes)), 0) << "first " << bytes;
  }
  for (size_t at = 0; at < good.size(); ++at) {
    std::vector<uint8_t> garbled = good;
    garbled[at] ^= 0xff;
    EXPECT_GE(Exchange(path, garbled), 0) << "byte " << at;  // some bytes mean nothing
  }
  EXPECT_EQ(Exchange(path, std::vector<uint8_t>(100'000, 0xa5)), 0);
  for (const size_t count : {1u, 8u, 64u}) {
    EXPECT_EQ(Exchange(path, std::vector<uint8_t>(64, 0xa5), count), 0) << count;
    EXPECT_GE(Exchange(path, good, count), 0) << count;
  }
  // Well formed, but nothing that can be done: these get an answer that says so.
  EXPECT_GT(Exchange(path, MakePing(1)), 0);
  EXPECT_GT(Exchange(path, MakeRelease("nobody")), 0);
  EXPECT_GT(Exchange(path, MakeSetContent("nobody", "/nothing")), 0);
  EXPECT_EQ(OpenDescriptors(service), descriptors);

  const UniqueFd silent = Connect(path);
  EXPECT_TRUE(silent.valid());
  const Outcome status = Run("status");
  EXPECT_EQ(status.code, 0);
  EXPECT_THAT(status.text, HasSubstr("pid " + std::to_string(service) + ", fanotify"));
  EXPECT_THAT(status.text, HasSubstr("scanner 1.0.0: serving, generation 1,"));
  if (OrdinaryCanRun()) {
    const Outcome stranger = RunAs(Ordinary(), "status");
    EXPECT_EQ(stranger.code, 1);
    EXPECT_THAT(stranger.text, HasSubstr("none that this user may see"));
  }
  EXPECT_TRUE(std::ifstream(files_ + "/clean").good());
  EXPECT_EQ(StopService(), 0);
}

}  // namespace
}  // namespace bulkhead
