// SPDX-License-Identifier: Apache-2.0
#include "host/cli/events.h"

#include <sys/types.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "host/service/event_fields.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kAnswersWithinNs = 3 * kNanosecondsPerSecond;
constexpr uint64_t kLookEveryNs = kNanosecondsPerSecond / 4;

struct EventsOptions {
  bool follow = false;
  bool json = false;
  pid_t pid = 0;  // 0: every instance
};

class EventReader {
 public:
  EventReader(const Program& program, EventsOptions options)
      : program_(program), options_(options) {}

  int Run() {
    int code = Look();
    if (!options_.follow) return code;
    // An instance that comes later is followed, too. Its end by a signal is this command's own.
    while (!program_.interrupted->load() && !failed_) {
      const timespec pause = {0, static_cast<long>(kLookEveryNs)};
      nanosleep(&pause, nullptr);
      Look();
    }
    return failed_ ? kExitTrouble : kExitOk;
  }

 private:
  // What is new at each instance.
  int Look() {
    const std::vector<std::string> sockets =
        options_.pid != 0 ? std::vector<std::string>{InstanceSocket(options_.pid)}
                          : InstanceSockets();
    int code = kExitOk;
    size_t answered = 0;
    for (const std::string& path : sockets) {
      const absl::Status status = Read(path);
      if (absl::IsNotFound(status)) {
        seen_.erase(path);  // a later process with this number is another
        continue;
      }
      ++answered;
      if (status.ok()) continue;
      code = kExitFailed;
      if (std::exchange(told_[path], true)) continue;
      std::fprintf(stderr, "bulkhead: instance %s does not answer (%s)\n", path.c_str(),
                   std::string(status.message()).c_str());
    }
    if (answered == 0 && !options_.follow) {
      const std::string which =
          options_.pid == 0 ? "no instance of bulkhead runs (or none that this user may see)"
                            : absl::StrCat("no instance with pid ", options_.pid,
                                           "; `bulkhead status` lists them");
      std::fprintf(stderr, "bulkhead: %s\n", which.c_str());
      return kExitFailed;
    }
    return code;
  }

  absl::Status Read(const std::string& path) {
    for (;;) {
      const uint64_t after = seen_[path];
      absl::StatusOr<ControlMessage> answer =
          AskInstance(path, MakeGetEvents(after), kAnswersWithinNs);
      if (!answer.ok()) return answer.status();
      const auto* message = answer->as<wire::Events>();
      if (message == nullptr) {
        return absl::UnimplementedError("it keeps no events: is it of this release?");
      }
      const EventsFields some = ReadEvents(*message);
      told_[path] = false;
      if (some.lost != 0) Print(path, LostEvents(some.lost));
      for (const EventFields& event : some.events) Print(path, event);
      if (some.events.empty() || failed_) return absl::OkStatus();
      seen_[path] = some.events.back().sequence;
      if (some.events.back().sequence >= some.newest) return absl::OkStatus();
    }
  }

  static EventFields LostEvents(uint64_t lost) {
    return {.at_us = WallClockUs(),
            .kind = "EventsLost",
            .level = wire::LogLevel::Warning,
            .number = static_cast<uint32_t>(std::min<uint64_t>(lost, UINT32_MAX)),
            .line = absl::StrCat("bulkhead: ", lost, " events are no longer known")};
  }

  void Print(const std::string& path, const EventFields& event) {
    if (options_.json) {
      std::printf("%s\n", EventJson(event).c_str());
    } else {
      // The events of several instances are told apart by the names of their sockets.
      const size_t slash = path.rfind('/') + 1;
      std::printf("%s %s %-7s %s\n", TimeText(event.at_us).c_str(),
                  path.substr(slash, path.rfind('.') - slash).c_str(), LevelName(event.level),
                  Printable(event.line).c_str());
    }
    // A reader of a pipe wants each at once, and one that is gone ends this.
    if (std::fflush(stdout) != 0) failed_ = true;
  }

  const Program& program_;
  const EventsOptions options_;
  std::map<std::string, uint64_t> seen_;  // by socket: the newest that was printed
  std::map<std::string, bool> told_;      // that it does not answer
  bool failed_ = false;
};

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
    *run = [&program, options] { return EventReader(program, *options).Run(); };
  });
}

}  // namespace bulkhead
