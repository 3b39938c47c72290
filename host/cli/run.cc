// SPDX-License-Identifier: Apache-2.0
#include "host/cli/run.h"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "host/attachment/registry.h"
#include "host/cli/service_options.h"
#include "host/service/config_values.h"
#include "host/service/daemon.h"
#include "host/service/service_log.h"

namespace bulkhead {
namespace {

struct RunOptions {
  ServiceOptions service;
  std::vector<std::string> guarded;
  GuardSpec guard;  // of every folder
  std::string json;
  std::string attachment = "auto";
  std::vector<std::string> accepted;  // limits of the attachment
  bool quiet = false;
  int ready_fd = -1;
};

DaemonOptions DaemonOptionsOf(const RunOptions& options) {
  DaemonOptions daemon = {.config = ConfigOf(options.service),
                          .config_path = "",
                          .field_prefix = "--",
                          .ready_fd = options.ready_fd};
  daemon.config.attachment = options.attachment;
  daemon.config.accepted.insert(options.accepted.begin(), options.accepted.end());
  for (const std::string& folder : options.guarded) {
    daemon.config.guards.push_back(options.guard);
    daemon.config.guards.back().folder = folder;
    daemon.config.guards.back().deadline_ns = options.service.deadline_ns;
  }
  return daemon;
}

int RunService(const Program& program, const RunOptions& options) {
  absl::StatusOr<std::vector<CounterFields>> counts;
  {
    ServiceLog log(options.quiet);
    counts = RunDaemon(program, DaemonOptionsOf(options), log);
  }
  if (!counts.ok()) return Complain(counts.status());
  if (options.json.empty()) return kExitOk;
  Report report("run");
  for (const CounterFields& counter : *counts) {
    report.AddInfo(counter.name, static_cast<double>(counter.value), "");
  }
  const absl::Status written = report.WriteJson(options.json);
  return written.ok() ? kExitOk : Complain(written);
}

// Each needs a capability of the attachment (NeedsOf).
void AddFilter(CLI::App& command, GuardFilter& filter) {
  command
      .add_option_function<std::string>(
          "--mode",
          [&filter](const std::string& mode) {
            filter.mode = mode == "read" ? AccessMode::kRead : AccessMode::kWrite;
          },
          "Ask only about files opened for writing, or only about the others")
      ->check(CLI::IsMember({"read", "write"}))
      ->type_name("MODE");
  command.add_option("--owner", filter.owner, "Ask only about files of this user")
      ->check(CLI::Range(0u, UINT32_MAX - 1))
      ->type_name("UID");
  command
      .add_option("--extensions", filter.extensions, "Ask only about names that end so: exe,dll")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("LIST");
  command
      .add_option("--skip-under", filter.skip_under,
                  "Don't ask about what is in this folder or below; may be repeated")
      ->allow_extra_args(false)
      ->type_name("DIR");
}

void AddEventOption(CLI::App& command, bh_callback_set& callbacks) {
  std::vector<std::string> names;
  for (const EventName& event : EventNames()) names.push_back(event.name);
  command
      .add_option_function<std::vector<std::string>>(
          "--events",
          [&callbacks](const std::vector<std::string>& wanted) {
            callbacks = {};
            for (const EventName& event : EventNames()) {
              if (std::find(wanted.begin(), wanted.end(), event.name) != wanted.end()) {
                bh_set_add(&callbacks, event.callback);
              }
            }
          },
          "What to ask about: open,exec,access")
      ->delimiter(',')
      ->check(CLI::IsMember(names))
      ->type_name("LIST")
      ->default_str(EventList(callbacks));
}

void AddGuardOptions(CLI::App& command, AttachmentRows rows, RunOptions& options) {
  std::vector<std::string> names = {"auto"};
  std::string help = "Where calls come from. auto: the first that this machine has of";
  for (const AttachmentKind* kind : rows) {
    if (!kind->can(kGuardsFolders)) continue;
    names.emplace_back(kind->name);
    absl::StrAppend(&help, names.size() == 2 ? " " : "; ", kind->name, ": ", kind->summary);
  }
  command.add_option("--attachment,--attach", options.attachment, help)
      ->check(CLI::IsMember(names))
      ->type_name("NAME");
  std::set<std::string> limits;
  for (const AttachmentKind* kind : rows) {
    for (const AttachmentLimit& limit : kind->limits) limits.insert(limit.name);
  }
  command
      .add_option("--accept", options.accepted,
                  "Limits of the attachment that don't make protection degraded; doctor explains "
                  "them")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember(limits))
      ->type_name("LIST");
  std::vector<std::string> marks;
  for (const MarkKind kind : kMarkKinds) marks.emplace_back(MarkKindName(kind));
  command
      .add_option_function<std::string>(
          "--mark",
          [&mark = options.guard.mark](const std::string& name) {
            for (const MarkKind kind : kMarkKinds) {
              if (name == MarkKindName(kind)) mark = kind;
            }
          },
          "directory: what is below the folder; mount, filesystem: all that is on its mount "
          "or file system, outside the folder too; auto: below the folder")
      ->check(CLI::IsMember(marks))
      ->type_name("KIND");
  AddEventOption(command, options.guard.callbacks);
  AddFilter(command, options.guard.filter);
}

}  // namespace

void AddRun(CLI::App& app, const Program& program, std::function<int()>* run,
            const ServiceOptions& defaults) {
  auto options = std::make_shared<RunOptions>();
  options->service = defaults;
  CLI::App* command = app.add_subcommand(
      "run", "Guard folders with drivers, in the foreground, until Ctrl-C (root)");
  AddServiceOptions(*command, options->service);
  command->add_option("--guard", options->guarded, "A folder to guard; may be repeated")
      ->allow_extra_args(false)
      ->required()
      ->type_name("DIR");
  AddGuardOptions(*command, program.attachments, *options);
  command->add_flag_callback(
      "--audit", [&policy = options->service.each.policy] { policy.mode = BH_MODE_AUDIT; },
      "Record what the drivers deny, and deny nothing; `bulkhead events` has what would have been");
  command->add_option("--json", options->json, "Write the counts to this file at the end")
      ->check(ReportPathTrouble)
      ->type_name("FILE");
  command->add_flag("--quiet", options->quiet,
                    "Print nothing but what keeps it from running, or from protecting");
  command
      ->add_option("--ready-fd", options->ready_fd,
                   "Write a line to this descriptor once the folders are guarded")
      ->type_name("N");
  command->callback([&program, options, run] {
    *run = [&program, options] { return RunService(program, *options); };
  });
}

}  // namespace bulkhead
