// SPDX-License-Identifier: Apache-2.0
//
// Fixtures for tests of bulkheadd: a configuration, a folder to guard, and the manager's end of
// sd_notify(3). For programs that are no tests: daemon_process.h.
#ifndef BULKHEAD_TESTS_TESTING_DAEMON_FIXTURE_H_
#define BULKHEAD_TESTS_TESTING_DAEMON_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/testing/cli_fixture.h"
#include "tests/testing/notify_socket.h"

namespace bulkhead {

class Daemon : public CliAsRoot {
 protected:
  void SetUp() override {
    CliAsRoot::SetUp();
    if (IsSkipped()) return;
    config_ = folder_ + "/bulkhead.toml";
    more_ = folder_ + "/more";
    rules_ = folder_ + "/rules";
    std::filesystem::create_directories(more_);
    // As the service names them.
    files_ = std::filesystem::canonical(files_);
    more_ = std::filesystem::canonical(more_);
    std::filesystem::copy(build_ + "/drivers/scanner/rules", rules_,
                          std::filesystem::copy_options::recursive);
    manager_ = std::make_unique<NotifySocket>(folder_ + "/notify");
    ASSERT_TRUE(manager_->bound());
    setenv("NOTIFY_SOCKET", (folder_ + "/notify").c_str(), 1);
    Infect();
    std::filesystem::copy(files_ + "/infected", more_ + "/infected");
  }
  void TearDown() override {
    unsetenv("NOTIFY_SOCKET");
    CliAsRoot::TearDown();
  }

  // Users each of whom has one group, with the same id. Empty, or why a test can't act as them.
  static constexpr uid_t kGames = 60, kUsers = 100;
  std::string WhyNoMembers();

  void Write(const std::string& text) {
    std::ofstream(config_) << text;
    std::filesystem::permissions(
        config_, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  }
  std::string Scanner() const {
    return "[[driver]]\nname = 'scanner'\ncontent = '" + rules_ + "'\n";
  }
  static std::string GuardOf(const std::string& folder) {
    return "[[guard]]\nfolder = '" + folder + "'\n";
  }
  // Its process, when it has said that it is ready.
  pid_t Start() {
    const pid_t service = Begin("bulkheadd", "--config " + config_);
    pid_ = " --pid " + std::to_string(service);
    EXPECT_EQ(manager_->Await("READY=1"), "READY=1") << Output();
    return service;
  }
  std::string Output() const {
    std::stringstream text;
    text << std::ifstream(folder_ + "/output").rdbuf();
    return text.str();
  }
  bool Opens(const std::string& path) const { return std::ifstream(path).good(); }
  // What `bulkhead events --json` prints of it.
  std::vector<nlohmann::json> Events();
  // Of the newest event of this kind; "none" when there is none.
  std::string TextOf(const std::string& kind);

  // Of `bulkhead status --json`: the instance with config_, its first driver, that one's host, and
  // the shim's worker. Empty, or -1, where there is none.
  nlohmann::json Status();
  nlohmann::json Driver();
  pid_t Host();
  pid_t Shim();
  // The socket of the process that holds what the next service needs, and the process.
  std::string Store() const;
  pid_t StoreProcess() const;
  static pid_t ParentOf(pid_t pid);
  // Of a process that need not be this one's to wait for.
  static void AwaitEnd(pid_t pid);

  std::string config_, more_, rules_;
  std::string pid_;  // " --pid N"
  std::unique_ptr<NotifySocket> manager_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_DAEMON_FIXTURE_H_
