// SPDX-License-Identifier: Apache-2.0
#include "host/cli/run.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "host/attachment/registry.h"
#include "host/cli/service_log.h"
#include "host/cli/service_options.h"
#include "host/service/peers.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/abi/names.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/unique_fd.h"

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

struct EventName {
  std::string name;
  uint32_t callback;
};
// Of each callback about files: "open" of file_open.
std::vector<EventName> EventNames() {
  constexpr std::pair<std::string_view, uint32_t> kRows[] = {
#define BH_CALLBACK_ROW(klass, index, NAME, name, kind, args, reply, reissue, flags, doc) \
  {#name, BH_CALLBACK_##NAME},
#include "ipc/abi/callbacks.def"
  };
  constexpr std::string_view kPrefix = "file_";
  std::vector<EventName> events;
  for (const auto& [name, callback] : kRows) {
    if (name.substr(0, kPrefix.size()) != kPrefix) continue;
    events.push_back({std::string(name.substr(kPrefix.size())), callback});
  }
  return events;
}

std::string ProtectionText(const GuardProtection& guard) {
  std::string text =
      absl::StrCat("guard of ", guard.folder, ": protection ", bh_protection_name(guard.level));
  for (const std::string& reason : guard.reasons) absl::StrAppend(&text, "; ", reason);
  if (guard.losses != 0) {
    absl::StrAppend(&text, "; it was found to be gone ", guard.losses, " times");
  }
  return text;
}

// Compared with the kernel, and with what the drivers have registered for: a guard about whose
// events none is asked protects nothing.
std::vector<GuardProtection> ProtectionsOf(Attachment& attachment, const ServiceConfig& config,
                                           const Supervisor& supervisor) {
  std::vector<GuardProtection> guards = attachment.Protections();
  const bh_callback_set asked = supervisor.AskedAbout();
  for (const GuardSpec& spec : config.guards) {
    bh_callback_set both = spec.callbacks;
    bh_set_and(&both, &asked);
    if (bh_set_empty(&both) == 0) continue;
    std::string events;
    for (const EventName& event : EventNames()) {
      if (bh_set_has(&spec.callbacks, event.callback) == 0) continue;
      absl::StrAppend(&events, events.empty() ? "" : ",", event.name);
    }
    for (GuardProtection& guard : guards) {
      if (guard.folder != spec.folder) continue;
      guard.level = BH_PROTECTION_NONE;
      guard.reasons.insert(guard.reasons.begin(),
                           absl::StrCat("no driver has registered for its events (", events,
                                        "): choose others with --events, or another driver"));
    }
  }
  return guards;
}

// What its hosts and others take too much of must not end it, and its guards with it. The shim's
// processes inherit that; hosts do not. -900 is not enough: in a small control group the kernel
// ends the next process while a host that it has killed still gives its memory back. Without the
// right to it, it stays as it is.
void OutliveWantOfMemory() {
  const UniqueFd file(open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC));
  char text[16] = {};
  int score = 0;
  if (!file.valid() || pread(file.get(), text, sizeof(text) - 1, 0) <= 0) return;
  if (absl::SimpleAtoi(text, &score) && score == 0) (void)!pwrite(file.get(), "-1000", 5, 0);
}

// Complaints are the caller's: when all is put away. Nothing here waits for who reads them.
absl::Status Serve(const Program& program, RunOptions options, ServiceLog& log) {
  IgnoreStraySignals();
  OutliveWantOfMemory();
  // Before a file of ours takes the number.
  if (options.ready_fd >= 0 && fcntl(options.ready_fd, F_GETFD) < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ready-fd ", options.ready_fd, ": no such descriptor is open here"));
  }
  ServiceConfig config = ConfigOf(options.service);
  config.attachment = options.attachment;
  config.accepted.insert(options.accepted.begin(), options.accepted.end());
  for (const std::string& folder : options.guarded) {
    config.guards.push_back(options.guard);
    config.guards.back().folder = folder;
    config.guards.back().deadline_ns = options.service.deadline_ns;
  }
  if (absl::Status status = CheckConfig(config, "--"); !status.ok()) return status;
  for (size_t i = 0; i < config.guards.size(); ++i) {
    options.guarded[i] = std::filesystem::canonical(options.guarded[i]).string();
    config.guards[i].folder = options.guarded[i];
  }
  absl::StatusOr<Instance> instance = Instance::Claim(options.guarded);
  if (!instance.ok()) return instance.status();

  options.service.on_event = [&log](const DriverEvent& event) { log.Event(event); };
  const auto tell = [&log](const GuardProtection& guard) {
    guard.level == BH_PROTECTION_FULL ? log.Text(ProtectionText(guard))
                                      : log.Warn(ProtectionText(guard));
  };
  absl::StatusOr<ChosenAttachment> chosen =
      CreateAttachment(program.attachments, config.attachment, NeedsOf(config, "--"),
                       {.log = [&log](const std::string& text) { log.Text(text); },
                        .on_protection = tell,
                        .accepted = config.accepted});
  if (!chosen.ok()) return chosen.status();
  const AttachmentKind& kind = *chosen->kind;
  Attachment& attachment = *chosen->attachment;
  // On each way out: a request that the shim never answers keeps the attachment.
  const absl::Cleanup stop_attachment = [&attachment] { attachment.Stop(); };
  const std::shared_ptr<ShimLink> link = SharedLink(chosen->attachment);
  absl::StatusOr<std::unique_ptr<Service>> service =
      Service::Start(EnvironmentOf(program, options.service), config, link, kind.name);
  if (!service.ok()) return service.status();
  const auto complete = [&](StatusFields& status) {
    const Attachment::ShimProcess shim = attachment.shim_process();
    for (GuardProtection& guard : ProtectionsOf(attachment, config, (*service)->supervisor())) {
      status.guards.push_back({.folder = std::move(guard.folder),
                               .protection = {guard.level, std::move(guard.reasons)},
                               .losses = guard.losses});
    }
    status.shim_pid = shim.pid;
    status.shim_incarnation = shim.incarnation;
    const std::vector<uint64_t> values = attachment.CounterValues();
    for (size_t i = 0; i < values.size(); ++i) {
      status.counters.push_back({.name = kind.counters[i], .value = values[i]});
    }
  };
  const UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  absl::StatusOr<std::unique_ptr<OperatorServer>> server =
      OperatorServer::Listen(InstanceSocket(getpid()), &(*service)->supervisor(), complete,
                             [&stop] { eventfd_write(stop.get(), 1); });
  if (!server.ok()) return server.status();
  Peers peers(link.get());
  peers.Look();
  for (const GuardSpec& guard : config.guards) {
    if (program.interrupted->load()) return absl::CancelledError("interrupted");
    if (absl::Status status = attachment.Guard(guard).status(); !status.ok()) {
      return status;
    }
    log.Text(absl::StrCat("guards ", guard.folder, "; Ctrl-C ends it"));
  }
  if (absl::Status status = attachment.Settle(); !status.ok()) return status;
  for (const GuardProtection& guard : ProtectionsOf(attachment, config, (*service)->supervisor())) {
    if (guard.level != BH_PROTECTION_FULL) tell(guard);
  }

  // Not before: a start takes as long as its drivers and folders do. Nor after the line below, on
  // which others may send two signals.
  EndInOrder();
  log.Flush();
  if (options.ready_fd >= 0) {
    (void)!write(options.ready_fd, "\n", 1);
    close(options.ready_fd);
  }
  pollfd stopped = {stop.get(), POLLIN, 0};
  while (!program.interrupted->load() && poll(&stopped, 1, 1000) != 1) {  // a signal ends it early
    attachment.Protections();
    peers.Look();
    if (TakeHangup()) {
      log.Text("SIGHUP: the guards stay, and there is nothing to read again; SIGTERM ends it");
    }
    log.Show((*service)->supervisor().Status(), attachment.CounterValues().front(), 1.0);
  }
  const std::vector<uint64_t> counters = attachment.CounterValues();
  attachment.RemoveGuards();  // from here on no open waits
  log.Text("ends: opens pass unasked from here on");
  (*service)->Stop();
  server->reset();  // no request for content waits any more
  if (options.json.empty()) return absl::OkStatus();
  Report report("run");
  for (size_t i = 0; i < kind.counters.size(); ++i) {
    report.AddInfo(kind.counters[i], static_cast<double>(counters[i]), "");
  }
  return report.WriteJson(options.json);
}

int RunService(const Program& program, const RunOptions& options) {
  absl::Status status;
  {
    ServiceLog log(options.quiet);
    status = Serve(program, options, log);
  }
  return status.ok() ? kExitOk : Complain(status);
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

void AddEvents(CLI::App& command, bh_callback_set& callbacks) {
  std::vector<std::string> names;
  std::string defaults;
  for (const EventName& event : EventNames()) {
    names.emplace_back(event.name);
    if (bh_set_has(&callbacks, event.callback) == 0) continue;
    absl::StrAppend(&defaults, defaults.empty() ? "" : ",", event.name);
  }
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
      ->default_str(defaults);
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
  AddEvents(command, options.guard.callbacks);
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
