// SPDX-License-Identifier: Apache-2.0
#include "host/cli/operators.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "host/cli/instances.h"
#include "host/cli/program.h"
#include "host/cli/service_options.h"
#include "host/cli/status.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

// Sends a request and tells how it went.
int Ask(const std::string& path, const ControlBuffer& request, const std::string& done) {
  absl::StatusOr<ControlMessage> answer = AskInstance(path, request);
  if (!answer.ok()) return Complain(answer.status());
  const auto* result = answer->as<wire::Done>();
  if (result == nullptr)
    return Complain(absl::InternalError(
        "the instance answered with another message than Done: is it of this release?"));
  if (result->error() != nullptr && result->error()->size() != 0) {
    std::fprintf(stderr, "bulkhead: %s\n", Printable(result->error()->c_str()).c_str());
    return kExitFailed;
  }
  std::printf("%s\n", done.c_str());
  return kExitOk;
}

// Sends a request to each instance that runs this driver, or only to that with this process id (0:
// any). The code is the worst of theirs; an instance that is silent may run the driver, too.
int AskAbout(const std::string& driver, pid_t pid, const ControlBuffer& request,
             const std::string& done) {
  const Instances instances = FindInstances();
  std::vector<std::pair<std::string, uint32_t>> asked;
  for (const auto& [path, status] : instances.answered) {
    if (pid != 0 && status.pid != static_cast<uint32_t>(pid)) continue;
    const bool runs =
        std::any_of(status.drivers.begin(), status.drivers.end(),
                    [&](const DriverStatusFields& running) { return running.name == driver; });
    if (runs) asked.emplace_back(path, status.pid);
  }
  if (asked.empty()) {
    return Complain(absl::NotFoundError(
        absl::StrCat(pid == 0 ? "no instance that this user may see"
                              : absl::StrCat("no instance with pid ", pid),
                     " runs the driver '", driver,
                     "'; `bulkhead status` lists them, and those of root for root only")));
  }
  int code = pid == 0 && !instances.silent.empty() ? kExitFailed : kExitOk;
  for (const auto& [path, instance] : asked) {
    if (asked.size() > 1) std::printf("pid %u: ", instance);
    std::fflush(stdout);
    code = std::max(code, Ask(path, request, done));
  }
  return code;
}

// Returns when the instance has ended.
int StopInstance(pid_t pid) {
  constexpr int kEndsWithinMs = 30'000;
  // Held from before the request: the number can't become another's.
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return Complain(absl::NotFoundError(absl::StrCat("no process ", pid)));
  const std::string socket = InstanceSocket(pid);
  if (access(socket.c_str(), F_OK) != 0) {
    return Complain(absl::NotFoundError(
        absl::StrCat("process ", pid,
                     " is no instance that this user may stop; `bulkhead status` "
                     "lists them, and those of root for root only")));
  }
  if (const int code = Ask(socket, MakeShutdown(), "stops"); code != kExitOk) return code;
  pollfd ended = {process.get(), POLLIN, 0};
  if (poll(&ended, 1, kEndsWithinMs) == 1) return kExitOk;
  return Complain(absl::DeadlineExceededError(absl::StrCat("process ", pid, " is still there")));
}

}  // namespace

void AddOperators(CLI::App& app, std::function<int()>* run) {
  auto json = std::make_shared<std::string>();
  CLI::App* status =
      app.add_subcommand("status",
                         "What runs, and how it is doing; 1: nothing runs, or an instance or a "
                         "driver's shim does not answer");
  status->add_option("--json", *json, "Also write it to this file")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  auto check = std::make_shared<bool>(false);
  status->add_flag("--check", *check,
                   "1 also when the protection of a guard or a driver is not full");
  status->callback(
      [json, check, run] { *run = [json, check] { return ShowStatus(*json, *check); }; });

  const auto is_pid = [](const std::string& text) {
    pid_t number = 0;
    if (absl::SimpleAtoi(text, &number) && number > 0) return std::string();
    return absl::StrCat("'", text, "' is not a process id, as `bulkhead status` shows");
  };
  auto pid = std::make_shared<pid_t>(0);
  auto driver = std::make_shared<std::string>();
  auto rules = std::make_shared<std::string>();
  CLI::App* content = app.add_subcommand(
      "content", "Put new content in force in a running instance; 1: it was rolled back");
  content->add_option("--driver", *driver, "The driver")->required()->type_name("NAME");
  content->add_option("--content,--rules", *rules, "Folder with the new content")
      ->required()
      ->check(NamesAFolder)
      ->type_name("DIR");
  const std::string only = "Only in the instance with this process id; else in each that runs it";
  content->add_option("--pid", *pid, only)->check(is_pid)->type_name("PID");
  content->callback([driver, pid, rules, run] {
    *run = [driver, pid, rules] {
      std::error_code error;
      const std::string folder = std::filesystem::absolute(*rules, error).string();
      return AskAbout(*driver, *pid, MakeSetContent(*driver, folder), "in force");
    };
  });
  CLI::App* release = app.add_subcommand("release",
                                         "Start a quarantined driver again; returns when it "
                                         "serves. 1: it does not, or was not quarantined");
  release->add_option("--driver", *driver, "The driver")->required()->type_name("NAME");
  release->add_option("--pid", *pid, only)->check(is_pid)->type_name("PID");
  release->callback([driver, pid, run] {
    *run = [driver, pid] {
      return AskAbout(*driver, *pid, MakeRelease(*driver), "released: it serves");
    };
  });
  CLI::App* stop = app.add_subcommand("stop", "End a running instance in order, as Ctrl-C does");
  stop->add_option("--pid", *pid, "Its process, as status says")
      ->required()
      ->check(is_pid)
      ->type_name("PID");
  stop->callback([pid, run] { *run = [pid] { return StopInstance(*pid); }; });
}

}  // namespace bulkhead
