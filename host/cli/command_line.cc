// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command_line.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "host/cli/doctor.h"
#include "host/cli/eject.h"
#include "host/cli/operators.h"
#include "host/cli/program.h"
#include "host/cli/run.h"
#include "host/cli/scan.h"

namespace bulkhead {

namespace {

// What was printed and did not arrive was not said. A reader that has closed its end wants no more.
int AfterOutput(int code) {
  std::cout.flush();
  errno = 0;
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout.good();
  if (!failed) return code;
  const int error = errno;
  pollfd reader = {.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  if (error == EPIPE || (poll(&reader, 1, 0) == 1 && (reader.revents & POLLERR) != 0)) return code;
  std::fprintf(stderr, "bulkhead: can't write to standard output: %s\n",
               error == 0 ? "an earlier write failed" : std::strerror(error));
  return kExitTrouble;
}

// Started without some of 0, 1 and 2: the next files that it opens must not get their numbers, and
// with them what is printed. To read from them, or to write to them, still fails.
void TakeStandardDescriptors() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(number, F_GETFD) >= 0) continue;
    (void)open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY);  // takes the lowest
  }
}

// A variable of a script that was not set: what is said with it must not come to be the default.
void RefuseEmptyWords(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    for (CLI::Option* option : command->get_options()) {
      if (option->get_items_expected_max() == 0 || option->check_lname("driver-options")) continue;
      option->check(
          [](const std::string& text) { return std::string(text.empty() ? "is empty" : ""); });
    }
  }
}

}  // namespace

int RunCommandLine(int argc, char** argv, AttachmentRows attachments) {
  TakeStandardDescriptors();
  Program program = StartProgram();
  program.attachments = attachments;
  CLI::App app("Runs third-party drivers in user-mode processes that may crash");
  app.require_subcommand(1);
  app.set_version_flag("--version", "bulkhead 0.1.0");
  std::function<int()> run;
  AddRun(app, program, &run);
  AddOperators(app, &run);
  AddScan(app, program, &run);
  AddDoctor(app, program, &run);
  AddEject(app, program, &run);
  RefuseEmptyWords(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    // A misspelt word is the reason why something is missing.
    std::vector<std::string> unknown = app.remaining(/*recurse=*/true);  // the last one first
    std::reverse(unknown.begin(), unknown.end());
    const bool misspelt =
        wrong.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError) &&
        !unknown.empty();
    const int code = misspelt ? app.exit(CLI::ExtrasError(unknown)) : app.exit(wrong);
    return code == 0 ? AfterOutput(0) : kExitTrouble;
  }
  return AfterOutput(run());
}

}  // namespace bulkhead
