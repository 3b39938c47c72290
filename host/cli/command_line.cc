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
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "host/cli/check.h"
#include "host/cli/check_config.h"
#include "host/cli/doctor.h"
#include "host/cli/eject.h"
#include "host/cli/events.h"
#include "host/cli/new_driver.h"
#include "host/cli/operators.h"
#include "host/cli/program.h"
#include "host/cli/run.h"
#include "host/cli/scan.h"
#include "host/cli/top.h"
#include "host/supervisor/nearest_name.h"
#include "ipc/descriptor_table.h"

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

// The first word, where it is no command.
std::string MisspeltCommand(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return "";
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) return "";
  const std::string suggestion = DidYouMean(argv[1], names);
  return absl::StrCat(
      "'", Printable(argv[1]), "' is no command",
      suggestion.empty() ? absl::StrCat("; there are ", absl::StrJoin(names, ", ")) : suggestion,
      "; `bulkhead --help` says what each does");
}

// For each option that is not known, the one that may have been meant.
std::string SuggestOptions(const CLI::App& app, const std::vector<std::string>& unknown) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands()) {
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  std::string text;
  for (const std::string& word : unknown) {
    if (word.starts_with("--")) absl::StrAppend(&text, DidYouMean(word, names));
  }
  return text;
}

}  // namespace

int RunCommandLine(int argc, char** argv, AttachmentRows attachments) {
  TakeStandardDescriptors();
  ReserveDescriptors();  // `bulkhead run`
  const Program program = StartProgram(attachments);
  CLI::App app("Runs third-party drivers in user-mode processes that may crash");
  app.require_subcommand(1);
  app.set_version_flag("--version", "bulkhead 0.1.0");
  std::function<int()> run;
  AddRun(app, program, &run);
  AddOperators(app, &run);
  AddTop(app, program, &run);
  AddEvents(app, program, &run);
  AddCheckConfig(app, program, &run);
  AddScan(app, program, &run);
  AddCheck(app, program, &run);
  AddNewDriver(app, &run);
  AddDoctor(app, program, &run);
  AddEject(app, program, &run);
  RefuseEmptyWords(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    if (const std::string command = MisspeltCommand(app, argc, argv); !command.empty()) {
      std::fprintf(stderr, "bulkhead: %s\n", command.c_str());
      return kExitTrouble;
    }
    // A misspelt word is the reason why something is missing.
    std::vector<std::string> unknown = app.remaining(/*recurse=*/true);  // the last one first
    std::reverse(unknown.begin(), unknown.end());
    const bool misspelt =
        wrong.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError) &&
        !unknown.empty();
    const int code = misspelt ? app.exit(CLI::ExtrasError(unknown)) : app.exit(wrong);
    if (const std::string meant = SuggestOptions(app, unknown); code != 0 && !meant.empty()) {
      std::fprintf(stderr, "bulkhead: %s\n", meant.substr(2).c_str());
    }
    return code == 0 ? AfterOutput(0) : kExitTrouble;
  }
  return AfterOutput(run());
}

}  // namespace bulkhead
