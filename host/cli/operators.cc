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
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "host/cli/instances.h"
#include "host/cli/program.h"
#include "host/cli/service_options.h"
#include "host/cli/status.h"
#include "host/cli/text_output.h"
#include "host/report/report.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

// What a request came to, at one instance.
struct Answer {
  uint32_t pid = 0;
  int code = kExitOk;
  std::string error;
  std::string link;  // of a sign-in
};

// Sends a request.
Answer Ask(const std::string& path, uint32_t pid, const ControlBuffer& request) {
  absl::StatusOr<ControlMessage> answer = AskInstance(path, request);
  if (!answer.ok()) return {pid, kExitTrouble, std::string(answer.status().message())};
  if (const auto* link = answer->as<wire::SignInLink>()) {
    return {.pid = pid, .error = {}, .link = link->link()->str()};
  }
  const auto* result = answer->as<wire::Done>();
  if (result == nullptr) {
    return {pid, kExitTrouble,
            "the instance answered with another message than Done: is it of this release?"};
  }
  if (result->error() == nullptr || result->error()->size() == 0) return {.pid = pid};
  return {pid, kExitFailed, result->error()->str()};
}

// Prints what requests came to, and writes it to the file `json` unless that is empty. The code is
// the worst of theirs, and at least `code`.
int Tell(const std::string& command, const std::vector<Answer>& answers, const std::string& done,
         const std::string& json, int code) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const Answer& answer : answers) {
    code = std::max(code, answer.code);
    results.push_back(
        {{"pid", answer.pid}, {"done", answer.error.empty()}, {"error", answer.error}});
    if (!answer.link.empty()) results.back()["link"] = answer.link;
    const std::string pid = answers.size() > 1 ? absl::StrCat("pid ", answer.pid, ": ") : "";
    std::fflush(stdout);
    if (!answer.error.empty()) {
      std::string error = answer.error;
      for (const absl::string_view line : absl::StrSplit(error, '\n')) {
        std::fprintf(stderr, "bulkhead: %s%s\n", pid.c_str(), Printable(std::string(line)).c_str());
      }
    } else {
      TextOutput(json).Print("%s%s\n", pid.c_str(),
                             answer.link.empty() ? done.c_str() : answer.link.c_str());
    }
  }
  if (json.empty()) return code;
  Report report(command);
  report.AddInfo("instances", static_cast<double>(answers.size()), "");
  report.SetDetail("results", results);
  const absl::Status written = report.WriteJson(json);
  return written.ok() ? code : Complain(written);
}

// Which of the running instances a request is for.
struct Choice {
  pid_t pid = 0;       // 0: any
  std::string driver;  // that it runs; empty: any
  bool has_config = false;
};

bool Matches(const Choice& choice, const StatusFields& status) {
  if (choice.pid != 0 && status.pid != static_cast<uint32_t>(choice.pid)) return false;
  if (choice.has_config && choice.pid == 0 && status.config_path.empty()) return false;
  return choice.driver.empty() || std::any_of(status.drivers.begin(), status.drivers.end(),
                                              [&](const DriverStatusFields& driver) {
                                                return driver.name == choice.driver;
                                              });
}

// Sends a request to each instance of the choice. The code is the worst of theirs; an instance that
// is silent may be one, too.
int AskEach(const std::string& command, const Choice& choice, const ControlBuffer& request,
            const std::string& done, const std::string& json) {
  const Instances instances = FindInstances();
  std::vector<Answer> answers;
  for (const auto& [path, status] : instances.answered) {
    if (Matches(choice, status)) answers.push_back(Ask(path, status.pid, request));
  }
  if (answers.empty()) {
    return Complain(absl::NotFoundError(absl::StrCat(
        choice.pid == 0 ? "no instance that this user may see"
                        : absl::StrCat("no instance with pid ", choice.pid),
        choice.driver.empty() ? (choice.has_config ? " has a configuration file" : " runs")
                              : absl::StrCat(" runs the driver '", choice.driver, "'"),
        "; `bulkhead status` lists them, and those of root for root and the groups that it "
        "admits")));
  }
  const bool may_be_more = choice.pid == 0 && !instances.silent.empty();
  return Tell(command, answers, done, json, may_be_more ? kExitFailed : kExitOk);
}

// Returns when the instance has ended.
int StopInstance(pid_t pid, HostsAtStop hosts, const std::string& json) {
  constexpr int kEndsWithinMs = 30'000;
  // Held from before the request: the number can't become another's.
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return Complain(absl::NotFoundError(absl::StrCat("no process ", pid)));
  const std::vector<std::string> sockets = SocketsToAsk(pid);
  if (sockets.empty()) {
    return Complain(absl::NotFoundError(
        absl::StrCat("process ", pid,
                     " is no instance that this user may stop; `bulkhead status` "
                     "lists them, and those of root for root and the groups that it admits")));
  }
  Answer answer = Ask(sockets.front(), static_cast<uint32_t>(pid), MakeShutdown(hosts));
  pollfd ended = {process.get(), POLLIN, 0};
  if (answer.code == kExitOk && poll(&ended, 1, kEndsWithinMs) != 1) {
    answer = {static_cast<uint32_t>(pid), kExitTrouble,
              absl::StrCat("process ", pid, " is still there")};
  }
  return Tell("stop", {answer},
              hosts == HostsAtStop::kStay ? "stopped; its hosts and guards stay" : "stopped", json,
              kExitOk);
}

}  // namespace

void AddOperators(CLI::App& app, std::function<int()>* run) {
  auto json = std::make_shared<std::string>();
  const auto add_json = [json](CLI::App* command) {
    command->add_option("--json", *json, "Also write it to this file; -: to standard output only")
        ->check(ReportPathTrouble)
        ->type_name("FILE");
  };
  CLI::App* status =
      app.add_subcommand("status",
                         "What runs, and how it is doing; 1: nothing runs, or an instance or a "
                         "driver's shim does not answer");
  add_json(status);
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
  auto choice = std::make_shared<Choice>();
  auto rules = std::make_shared<std::string>();
  CLI::App* content = app.add_subcommand(
      "content", "Put new content in force in a running instance; 1: it was rolled back");
  content->add_option("--driver", choice->driver, "The driver")->required()->type_name("NAME");
  content->add_option("--content,--rules", *rules, "Folder with the new content")
      ->required()
      ->check(NamesAFolder)
      ->type_name("DIR");
  const std::string only = "Only in the instance with this process id; else in each that runs it";
  content->add_option("--pid", choice->pid, only)->check(is_pid)->type_name("PID");
  add_json(content);
  content->callback([choice, rules, json, run] {
    *run = [choice, rules, json] {
      std::error_code error;
      const std::string folder = std::filesystem::absolute(*rules, error).string();
      return AskEach("content", *choice, MakeSetContent(choice->driver, folder), "in force", *json);
    };
  });
  CLI::App* release = app.add_subcommand("release",
                                         "Start a quarantined driver again; returns when it "
                                         "serves. 1: it does not, or was not quarantined");
  release->add_option("--driver", choice->driver, "The driver")->required()->type_name("NAME");
  release->add_option("--pid", choice->pid, only)->check(is_pid)->type_name("PID");
  add_json(release);
  release->callback([choice, json, run] {
    *run = [choice, json] {
      return AskEach("release", *choice, MakeRelease(choice->driver), "released: it serves", *json);
    };
  });
  CLI::App* reload = app.add_subcommand(
      "reload",
      "Read a running instance's configuration file again, as SIGHUP does; returns when what has "
      "changed is in force. 1: nothing was changed, and why");
  reload
      ->add_option("--pid", choice->pid,
                   "Only the instance with this process id; else each with a configuration file")
      ->check(is_pid)
      ->type_name("PID");
  add_json(reload);
  reload->callback([choice, json, run] {
    *run = [choice, json] {
      choice->has_config = true;
      return AskEach("reload", *choice, MakeReload(), "in force", *json);
    };
  });
  CLI::App* sign_in = app.add_subcommand(
      "sign-in",
      "Print a link that signs a browser in to the service's page, once and within a minute: from "
      "there it can reload and release, and reads what drivers say. 1: there is no page");
  sign_in
      ->add_option("--pid", choice->pid,
                   "Only the instance with this process id; else each with a configuration file")
      ->check(is_pid)
      ->type_name("PID");
  add_json(sign_in);
  sign_in->callback([choice, json, run] {
    *run = [choice, json] {
      choice->has_config = true;
      return AskEach("sign-in", *choice, MakeSignIn(), "", *json);
    };
  });
  CLI::App* stop = app.add_subcommand("stop", "End a running instance in order, as Ctrl-C does");
  stop->add_option("--pid", choice->pid, "Its process, as status says")
      ->required()
      ->check(is_pid)
      ->type_name("PID");
  auto keep = std::make_shared<bool>(false);
  auto release_hosts = std::make_shared<bool>(false);
  CLI::Option* keeps = stop->add_flag(
      "--keep", *keep,
      "Leave hosts and guards to the next bulkheadd with the same configuration file");
  stop->add_flag("--release", *release_hosts,
                 "End hosts and guards, too; without either: as on-stop in its configuration says")
      ->excludes(keeps);
  add_json(stop);
  stop->callback([choice, keep, release_hosts, json, run] {
    *run = [choice, keep, release_hosts, json] {
      const HostsAtStop hosts = *keep            ? HostsAtStop::kStay
                                : *release_hosts ? HostsAtStop::kEnd
                                                 : HostsAtStop::kAsConfigured;
      return StopInstance(choice->pid, hosts, *json);
    };
  });
}

}  // namespace bulkhead
