// SPDX-License-Identifier: Apache-2.0
#include "host/service/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "ipc/abi/policy.h"

namespace bulkhead {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr AttachmentLimit kLimit = {
    .name = "overlays", .text = "", .remedy = "", .applies = nullptr};
constexpr AttachmentKind kKind = {.name = "fanotify",
                                  .summary = "",
                                  .remedy = "",
                                  .capabilities = kGuardsFolders,
                                  .counters = {},
                                  .limits = absl::MakeConstSpan(&kLimit, 1),
                                  .probe = nullptr,
                                  .create = nullptr};
constexpr const AttachmentKind* kRows[] = {&kKind};

ParsedConfig Parse(const std::string& text) { return ParseConfig(text, kRows); }

std::vector<std::string> Mistakes(const std::string& text) {
  std::vector<std::string> lines;
  for (const FileMistake& mistake : Parse(text).mistakes)
    lines.push_back(MistakeText("F", mistake));
  return lines;
}

TEST(ConfigFile, GroupsOfOperatorsAreNamesOrIds) {
  const std::string rest = "[[driver]]\nname = 'null'\n[[guard]]\nfolder = '/tmp'\n";
  const ParsedConfig parsed = Parse("[operators]\nreaders = 'root'\nadmins = 0\n" + rest);
  ASSERT_THAT(parsed.mistakes, IsEmpty());
  EXPECT_EQ(parsed.config.operators.readers, (OperatorGroup{"root", 0}));
  EXPECT_EQ(parsed.config.operators.admins, (OperatorGroup{"0", 0}));
  EXPECT_FALSE(Parse(rest).config.operators.any());
  EXPECT_THAT(
      Mistakes("[operators]\nreaders = 'no-such-group'\nadmins = true\nreader = 'x'\n" + rest),
      UnorderedElementsAre(
          HasSubstr("F:2:11: readers: there is no group 'no-such-group'; make it"),
          HasSubstr("F:3:10: admins: expected a group's name or id, found true or false"),
          HasSubstr("F:4:1: unknown key 'operators.reader'")));
  EXPECT_THAT(Mistakes("[operators]\nadmins = -1\n" + rest),
              ElementsAre(HasSubstr("F:2:10: admins: there is no group '-1'")));
}

TEST(ConfigFile, TheSmallestHasADriverAndAGuard) {
  const ParsedConfig parsed = Parse("[[driver]]\nname = 'null'\n[[guard]]\nfolder = '/tmp'\n");
  ASSERT_THAT(parsed.mistakes, IsEmpty());
  ASSERT_EQ(parsed.config.drivers.size(), 1u);
  EXPECT_EQ(parsed.config.drivers[0].driver, "null");
  ASSERT_EQ(parsed.config.guards.size(), 1u);
  EXPECT_EQ(parsed.config.guards[0].folder, "/tmp");
  EXPECT_EQ(parsed.config.guards[0].deadline_ns, GuardSpec::kDefaultDeadlineNs);
  EXPECT_EQ(parsed.config.attachment, "auto");
}

TEST(ConfigFile, EachKeyArrives) {
  const ParsedConfig parsed = Parse(R"(
[service]
attachment = "fanotify"
accept = ["overlays"]
quarantine-retry = "never"
require-sandbox = "full"
log = "json"
metrics = "[::1]:9464"
page = true

[policy]
absent = "deny"
file.full = "hold,deny"

[[driver]]
name = "scanner"
content = "/tmp"
options = "fast"
cache = 1024
spin = 7
mode = "audit"
[driver.policy]
crashed = "allow"
process.absent = "cached,deny"

[[driver]]
name = "/opt/drivers/null"

[[guard]]
folder = "/tmp"
events = ["exec"]
mark = "mount"
mode = "audit"
deadline = "250ms"
skip-under = ["/usr", "/etc"]
only = { opened-for = "write", owner = 1000, extensions = ["exe", "dll"] }
)");
  ASSERT_THAT(parsed.mistakes, IsEmpty()) << MistakeText("F", parsed.mistakes[0]);
  const ServiceConfig& config = parsed.config;
  EXPECT_EQ(config.attachment, "fanotify");
  EXPECT_THAT(config.accepted, UnorderedElementsAre("overlays"));
  EXPECT_EQ(config.limits.retry_ns, 0u);
  EXPECT_EQ(config.log, LogFormat::kJson);
  EXPECT_EQ(config.metrics, "[::1]:9464");
  EXPECT_TRUE(config.page);
  EXPECT_EQ(config.sandbox_required, BH_SANDBOX_FULL);
  ASSERT_EQ(config.drivers.size(), 2u);
  const ServiceDriver& scanner = config.drivers[0];
  EXPECT_EQ(scanner.driver, "scanner");
  EXPECT_EQ(scanner.content_folder, "/tmp");
  EXPECT_EQ(scanner.options, "fast");
  EXPECT_EQ(scanner.cache_entries, 1024u);
  EXPECT_EQ(scanner.spin_us, 7u);
  EXPECT_EQ(scanner.policy.mode, BH_MODE_AUDIT);
  EXPECT_EQ(config.drivers[1].policy.mode, BH_MODE_ENFORCE);
  const auto rule = [](const ServiceDriver& driver, uint32_t klass, uint32_t reason) {
    return driver.policy.rule[klass][reason];
  };
  EXPECT_EQ(rule(scanner, BH_CLASS_FILE, BH_REASON_ABSENT).action, BH_ACTION_DENY);
  EXPECT_EQ(rule(scanner, BH_CLASS_FILE, BH_REASON_CRASHED).action, BH_ACTION_ALLOW);
  EXPECT_EQ(rule(scanner, BH_CLASS_PROCESS, BH_REASON_ABSENT).action, BH_ACTION_CACHED);
  EXPECT_EQ(rule(scanner, BH_CLASS_FILE, BH_REASON_FULL).fallback, BH_ACTION_DENY);
  EXPECT_EQ(rule(scanner, BH_CLASS_PROCESS, BH_REASON_FULL).fallback, BH_ACTION_ALLOW);
  EXPECT_EQ(rule(config.drivers[1], BH_CLASS_FILE, BH_REASON_CRASHED).action, BH_ACTION_HOLD)
      << "a driver's policy is its own";
  EXPECT_EQ(rule(config.drivers[1], BH_CLASS_PROCESS, BH_REASON_ABSENT).action, BH_ACTION_DENY);
  ASSERT_EQ(config.guards.size(), 1u);
  const GuardSpec& guard = config.guards[0];
  EXPECT_EQ(bh_set_has(&guard.callbacks, BH_CALLBACK_FILE_OPEN), 0);
  EXPECT_NE(bh_set_has(&guard.callbacks, BH_CALLBACK_FILE_EXEC), 0);
  EXPECT_EQ(guard.mark, MarkKind::kMount);
  EXPECT_EQ(guard.mode, BH_MODE_AUDIT);
  EXPECT_EQ(guard.deadline_ns, 250'000'000u);
  EXPECT_THAT(guard.filter.skip_under, ElementsAre("/usr", "/etc"));
  EXPECT_EQ(guard.filter.mode, AccessMode::kWrite);
  EXPECT_EQ(guard.filter.owner, 1000u);
  EXPECT_THAT(guard.filter.extensions, ElementsAre("exe", "dll"));
}

TEST(ConfigFile, EachMistakeHasItsPlaceAndSaysWhatIsExpected) {
  const std::string driver = "[[driver]]\nname = 'null'\n", guard = "[[guard]]\nfolder = '/tmp'\n";
  const struct {
    std::string text;
    std::vector<const char*> parts;
  } kMistakes[] = {
      // Not TOML.
      {"[[driver]\nname = 'null'\n", {"F:1:"}},
      {"[service]\nlog = json\n", {"F:2:7: "}},
      {"[service]\nlog = 'json'\nlog = 'text'\n", {"F:3:"}},
      {driver + guard + "mark = \"\xff\"\n", {"F:5:"}},
      // Names.
      {"[servce]\n" + driver + guard, {"F:1:2: ", "'servce'", "did you mean \"service\"?"}},
      {"[service]\nacept = []\n" + driver + guard, {"F:2:1: ", "'service.acept'", "\"accept\"?"}},
      {driver + "cachee = 0\n" + guard, {"F:3:1: ", "'driver.cachee'", "\"cache\"?"}},
      {driver + guard + "dedline = '5s'\n", {"F:5:1: ", "'guard.dedline'", "\"deadline\"?"}},
      {driver + guard + "only.owners = 1\n", {"F:5:", "'guard.only.owners'", "\"owner\"?"}},
      {driver + guard + "[policy]\nhang = 'deny'\n", {"F:6:1: ", "'policy.hang'", "\"hung\"?"}},
      {driver + guard + "[policy.file]\nx = 'deny'\n", {"F:6:1: ", "'policy.file.x'", "known: "}},
      // Types.
      {"service = 1\n" + driver + guard, {"F:1:", "expected a table, found a whole number"}},
      {"[driver]\nname = 'null'\n" + guard, {"F:1:", "write [[driver]]"}},
      {driver + "[guard]\nfolder = '/tmp'\n", {"F:3:", "write [[guard]]"}},
      {"driver = ['null']\n" + guard, {"F:1:11: ", "expected a table, found a text"}},
      {driver + "mode = 'adit'\n" + guard,
       {"F:3:8: ", "mode: 'adit' is not one of enforce, audit"}},
      {driver + guard + "mode = true\n", {"F:5:8: ", "mode: expected a text"}},
      {driver + "cache = '1'\n" + guard, {"F:3:9: ", "cache: expected a whole number"}},
      {driver + "cache = 1.5\n" + guard, {"F:3:9: ", "cache: ", "found a number"}},
      {driver + "options = ['a']\n" + guard, {"F:3:11: ", "found a list"}},
      {driver + guard + "deadline = 5\n", {"F:5:12: ", "\"5s\"", "found a whole number"}},
      {driver + guard + "events = 'open'\n", {"F:5:10: ", "expected a list of texts"}},
      {driver + guard + "events = ['open', 1]\n", {"F:5:19: ", "expected a text"}},
      {driver + guard + "deadline = 07:32:00\n", {"F:5:12: ", "found a date or a time of day"}},
      // Values.
      {"[service]\nattachment = 'fanotfy'\n" + driver + guard,
       {"F:2:14: ", "'fanotfy' is not one of auto, fanotify", "did you mean \"fanotify\"?"}},
      {"[service]\naccept = ['overlay']\n" + driver + guard, {"F:2:11: ", "\"overlays\"?"}},
      {"[service]\nquarantine-retry = 'soon'\n" + driver + guard,
       {"F:2:20: ", "'soon' is no time"}},
      {"[service]\nlog = 'xml'\n" + driver + guard, {"F:2:7: ", "auto, text, json, journal"}},
      {"[service]\nmetrics = '0.0.0.0:9464'\n" + driver + guard, {"F:2:11: ", "loopback address"}},
      {"[service]\nrequire-sandbox = 'all'\n" + driver + guard,
       {"F:2:19: ", "'all' is not a level of the sandbox (none, basic, confined, full)"}},
      {"[service]\nmetrics = 9464\n" + driver + guard, {"F:2:11: ", "expected a text"}},
      {"[service]\npage = 'yes'\n" + driver + guard, {"F:2:8: ", "page: expected true or false"}},
      {"[service]\npage = true\n" + driver + guard, {"F:2:8: ", "page: it has no address"}},
      {driver + guard + "deadline = 'never'\n", {"F:5:12: ", "'never' is no time"}},
      {driver + guard + "deadline = '2h'\n", {"F:5:12: ", "up to an hour"}},
      {driver + guard + "events = []\n", {"F:5:10: ", "name at least one of open"}},
      {driver + guard + "events = ['opened']\n", {"F:5:11: ", "'opened' is not one of"}},
      {driver + guard + "mark = 'inode'\n", {"F:5:8: ", "auto, directory, mount, filesystem"}},
      {driver + guard + "skip-under = ['tmp']\n", {"F:5:15: ", "not an absolute path"}},
      {driver + guard + "skip-under = ['/no/such']\n", {"F:5:14: ", "/no/such"}},
      {driver + guard + "only.extensions = ['.exe']\n", {"F:5:19: ", "write exe, not .exe"}},
      {driver + guard + "only.owner = -1\n", {"F:5:14: ", "-1 is not between"}},
      {driver + guard + "only.opened-for = 'rw'\n", {"F:5:19: ", "read, write"}},
      {driver + "cache = 1000\n" + guard, {"F:3:9: ", "1000 is not 0 or a power of two"}},
      {driver + "cache = 99999999999\n" + guard, {"F:3:9: ", "99999999999 is not between"}},
      {driver + "spin = 10001\n" + guard, {"F:3:8: ", "10001 us is more than"}},
      {driver + "content = '/no/such'\n" + guard, {"F:3:11: ", "no such folder '/no/such'"}},
      {driver + "content = 'rules'\n" + guard, {"F:3:11: ", "not an absolute path"}},
      {"[[driver]]\nname = './null'\n" + guard, {"F:2:8: ", "not an absolute path"}},
      {"[[driver]]\ncache = 0\n" + guard, {"F:1:1: ", "'' is no driver"}},
      {"[[driver]]\nname = ''\n" + guard, {"F:2:8: ", "'' is no driver"}},
      {driver + driver + guard, {"F:4:8: ", "'null' is given twice"}},
      {driver + guard + guard, {"F:6:10: ", "'/tmp' is given twice"}},
      {driver + "[[guard]]\nfolder = '/no/such'\n", {"F:4:10: ", "/no/such", "exists"}},
      {driver + "[[guard]]\nfolder = 'tmp'\n", {"F:4:10: ", "not an absolute path"}},
      {driver + "[[guard]]\nmark = 'auto'\n", {"F:3:1: ", "it has no folder"}},
      {driver + "[[guard]]\nfolder = '/etc/passwd'\n", {"F:4:10: ", "not a folder"}},
      {driver + "[driver.policy]\nabsent = 'alow'\n" + guard,
       {"F:4:10: ", "'alow' is not an action"}},
      {driver + "[driver.policy]\nabsent = 'hold,cached'\n" + guard, {"F:4:10: ", "not 'cached'"}},
      {driver + guard + "[policy.file]\nabsent = true\n", {"F:6:10: ", "found true or false"}},
      {driver + "options = \"a\\u0000b\"\n" + guard, {"F:3:11: ", "NUL"}},
      {guard, {"F:1:1: ", "there is none", "add [[driver]]"}},
      {driver, {"F:1:1: ", "there is none; add [[guard]]"}},
  };
  for (const auto& mistake : kMistakes) {
    const std::vector<std::string> lines = Mistakes(mistake.text);
    EXPECT_EQ(lines.size(), 1u) << mistake.text << ::testing::PrintToString(lines);
    if (lines.size() != 1) continue;
    for (const char* part : mistake.parts) EXPECT_THAT(lines[0], HasSubstr(part)) << mistake.text;
    EXPECT_EQ(lines[0].find(mistake.parts[0]), 0u) << lines[0] << "\n" << mistake.text;
  }
}

TEST(ConfigFile, AllMistakesAreFoundInTheOrderOfTheFile) {
  const std::vector<std::string> lines = Mistakes(
      "[[guard]]\nfolder = 'tmp'\n[service]\nlgo = 'text'\nattachment = 7\n[[driver]]\ncache = "
      "3\n");
  ASSERT_EQ(lines.size(), 5u) << ::testing::PrintToString(lines);
  EXPECT_THAT(lines, ElementsAre(HasSubstr("F:2:10: "), HasSubstr("F:4:1: "), HasSubstr("F:5:14: "),
                                 HasSubstr("F:6:1: "), HasSubstr("F:7:9: ")));
}

TEST(ConfigFile, TheReferenceHasEachKey) {
  const char* source = std::getenv("BULKHEAD_SOURCE");
  ASSERT_NE(source, nullptr);
  std::stringstream text;
  text << std::ifstream(std::string(source) + "/docs/configuration.md").rdbuf();
  for (const ConfigKey& key : kConfigKeys) {
    const std::string row = std::string("| `") + key.table + "` | `" + key.key + "` | " +
                            key.takes + " | " + key.meaning + " |\n";
    EXPECT_THAT(text.str(), HasSubstr(row));
  }
}

TEST(ConfigFile, AnEmptyFileLacksADriverAndAGuard) {
  EXPECT_EQ(Mistakes("").size(), 2u);
  EXPECT_EQ(Mistakes("# nothing\n").size(), 2u);
}

class ConfigFileOnDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/config.XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/bulkhead.toml";
    std::ofstream(path_) << "[[driver]]\nname = 'null'\n[[guard]]\nfolder = '/tmp'\n";
    ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Refusal() { return std::string(ReadConfigFile(path_, kRows).status().message()); }

  std::string folder_, path_;
};

TEST_F(ConfigFileOnDisk, IsRead) {
  const absl::StatusOr<ParsedConfig> parsed = ReadConfigFile(path_, kRows);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->mistakes, IsEmpty());
}

TEST_F(ConfigFileOnDisk, IsRefusedWhenOthersCanWriteToIt) {
  ASSERT_EQ(chmod(path_.c_str(), 0664), 0);
  EXPECT_THAT(Refusal(), HasSubstr("chmod go-w"));
  ASSERT_EQ(chmod(path_.c_str(), 0602), 0);
  EXPECT_THAT(Refusal(), HasSubstr("chmod go-w"));
}

TEST_F(ConfigFileOnDisk, IsRefusedWhenAnotherUserOwnsIt) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(chown(path_.c_str(), 65534, 65534), 0);
  EXPECT_THAT(Refusal(), HasSubstr("its owner is user 65534"));
}

TEST_F(ConfigFileOnDisk, WhatIsNoFileIsRefusedAtOnce) {
  ASSERT_EQ(unlink(path_.c_str()), 0);
  EXPECT_TRUE(absl::IsNotFound(ReadConfigFile(path_, kRows).status()));
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(Refusal(), HasSubstr("it is not a file"));
  path_ = folder_;
  EXPECT_THAT(Refusal(), HasSubstr("it is not a file"));
  path_ = "/dev/zero";
  EXPECT_THAT(Refusal(), HasSubstr("it is not a file"));
}

TEST_F(ConfigFileOnDisk, IsRefusedWhenItIsTooLarge) {
  ASSERT_EQ(truncate(path_.c_str(), (1 << 20) + 1), 0);
  EXPECT_THAT(Refusal(), HasSubstr("larger than 1 MiB"));
}

}  // namespace
}  // namespace bulkhead
