// SPDX-License-Identifier: Apache-2.0
//
// Runs the real `bulkhead` as an operator would, and looks for what it left: after each test there
// is no process, temporary folder, shared memory, socket or lock of what ran in it.
#ifndef BULKHEAD_TESTS_TESTING_CLI_FIXTURE_H_
#define BULKHEAD_TESTS_TESTING_CLI_FIXTURE_H_

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace bulkhead {

struct Outcome {
  int code = -1;     // 128 and the signal when one ended it
  std::string text;  // standard output and error
};

class Cli : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Runs `bulkhead words` to its end; a shell reads the words.
  Outcome Run(const std::string& words) { return RunAs(geteuid(), words); }
  Outcome RunAs(uid_t user, const std::string& words, const std::string& program = "bulkhead");
  // The same with another program of the build folder.
  Outcome RunProgram(const std::string& program, const std::string& words) {
    return RunAs(geteuid(), words, program);
  }
  // A user without privileges: user 65534 when this is root, else this user itself.
  uid_t Ordinary() const;
  // False when that user can't reach the program, where the tree stands in another user's home.
  bool OrdinaryCanRun() { return RunAs(Ordinary(), "--version").code == 0; }

  // `bulkhead run words`; returns its process when its folders are guarded, -1 when it did not
  // start. StopService ends the last one in order and returns its exit code.
  pid_t StartService(const std::string& words, const std::string& program = "bulkhead");
  int StopService(int signal = SIGTERM);
  // SIGKILL: nothing is put away.
  void KillService();
  // The same, but it returns at once. What the service says goes to folder_/output.
  pid_t BeginService(const std::string& words) { return Begin("bulkhead", "run " + words); }
  pid_t Begin(const std::string& program, const std::string& words);
  // Whether the process has a folder for what it keeps (host/service/state_folder.h).
  bool KeepsState(pid_t process) const;

  void Infect();  // files_/infected

  std::string build_;      // the build folder
  std::string folder_;     // of this test
  std::string temporary_;  // TMPDIR of what runs here; in folder_
  std::string files_;      // has a file `clean`; in folder_

 private:
  pid_t Spawn(uid_t user, const std::string& program, const std::string& words, int output) const;
  std::vector<pid_t> services_;
};

// For `bulkhead run`: skips where fanotify does not work.
class CliAsRoot : public Cli {
 protected:
  void SetUp() override;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_CLI_FIXTURE_H_
