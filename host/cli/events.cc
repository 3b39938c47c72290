// SPDX-License-Identifier: Apache-2.0
#include "host/cli/events.h"

#include <sys/types.h>
#include <time.h>

#include <cstdio>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "host/cli/event_follower.h"
#include "host/service/event_fields.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kLookEveryNs = kNanosecondsPerSecond / 4;

struct EventsOptions {
  bool follow = false;
  bool json = false;
  pid_t pid = 0;  // 0: every instance
};

// False: standard output takes no more.
bool Print(const EventsOptions& options, const std::string& instance, const EventFields& event) {
  if (options.json) {
    std::printf("%s\n", EventJson(event).c_str());
  } else {
    std::printf("%s %s %-7s %s\n", TimeText(event.at_us).c_str(), instance.c_str(),
                LevelName(event.level), Printable(event.line).c_str());
  }
  // A reader of a pipe wants each at once.
  return std::fflush(stdout) == 0;
}

int ShowEvents(const Program& program, const EventsOptions& options) {
  EventFollower follower(options.pid);
  bool failed = false;
  const auto print = [&](const std::string& instance, const EventFields& event) {
    failed = failed || !Print(options, instance, event);
    return !failed;
  };
  for (;;) {
    const EventFollower::Seen seen = follower.Look(print);
    for (const auto& [instance, error] : seen.silent) {
      std::fprintf(stderr, "bulkhead: instance %s gives no events (%s)\n", instance.c_str(),
                   error.c_str());
    }
    if (failed) return kExitTrouble;
    if (!options.follow) {
      if (seen.answered == 0) {
        std::fprintf(stderr, "bulkhead: no instance %s; `bulkhead status` lists them\n",
                     options.pid == 0 ? "that this user may see runs"
                                      : absl::StrCat("with pid ", options.pid).c_str());
      }
      return seen.answered == 0 || !seen.silent.empty() ? kExitFailed : kExitOk;
    }
    const timespec pause = {0, static_cast<long>(kLookEveryNs)};
    nanosleep(&pause, nullptr);
    if (program.interrupted->load()) return kExitOk;
  }
}

}  // namespace

void AddEvents(CLI::App& app, const Program& program, std::function<int()>* run) {
  auto options = std::make_shared<EventsOptions>();
  CLI::App* command = app.add_subcommand(
      "events", "What happened in running instances, the oldest first; 1: nothing runs");
  command->add_flag("--follow,-f", options->follow, "Go on with what happens, until Ctrl-C");
  command->add_flag("--json", options->json, "An object a line");
  command->add_option("--pid", options->pid, "Only of the instance with this process id")
      ->check([](const std::string& text) {
        pid_t number = 0;
        if (absl::SimpleAtoi(text, &number) && number > 0) return std::string();
        return absl::StrCat("'", text, "' is not a process id, as `bulkhead status` shows");
      })
      ->type_name("PID");
  command->callback([&program, options, run] {
    *run = [&program, options] { return ShowEvents(program, *options); };
  });
}

}  // namespace bulkhead
