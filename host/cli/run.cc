// SPDX-License-Identifier: Apache-2.0
#include "host/cli/run.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "host/attachment/registry.h"
#include "host/cli/event_text.h"
#include "host/cli/service_options.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/abi/names.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/statistics.h"
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

// One line on a terminal that is always the last: events go above it.
class StatusLine {
 public:
  explicit StatusLine(bool quiet)
      : quiet_(quiet), terminal_(!quiet && isatty(STDERR_FILENO) == 1) {}
  void Event(const DriverEvent& event) { Print(EventLine(event)); }
  void Text(const std::string& text) { Print("bulkhead: " + Printable(text)); }
  // Said even by a quiet service: what it is there for is not as it should be.
  void Warn(const std::string& text) { Say("bulkhead: " + Printable(text)); }
  void Show(const StatusFields& status, uint64_t events, double seconds) {
    if (!terminal_) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    std::fprintf(stderr, "\r\033[K%.0f calls/s",
                 static_cast<double>(events - events_before_) / seconds);
    events_before_ = events;
    for (const DriverStatusFields& driver : status.drivers) {
      std::fprintf(stderr, " | %s: %s, g%u, %lu restarts", driver.name.c_str(),
                   driver.state.c_str(), driver.generation,
                   static_cast<unsigned long>(driver.restarts));
    }
    std::fflush(stderr);
  }
  void End() const {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  void Print(const std::string& text) {
    if (!quiet_) Say(text);
  }
  void Say(const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::fprintf(stderr, "%s%s\n", terminal_ ? "\r\033[K" : "", text.c_str());
  }

  const bool quiet_;
  const bool terminal_;
  std::mutex mutex_;
  uint64_t events_before_ = 0;
};

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

int RunService(const Program& program, RunOptions options) {
  IgnoreStraySignals();
  // Before a file of ours takes the number.
  if (options.ready_fd >= 0 && fcntl(options.ready_fd, F_GETFD) < 0) {
    return Complain(absl::InvalidArgumentError(
        absl::StrCat("--ready-fd ", options.ready_fd, ": no such descriptor is open here")));
  }
  ServiceConfig config = ConfigOf(options.service);
  config.attachment = options.attachment;
  config.accepted.insert(options.accepted.begin(), options.accepted.end());
  for (const std::string& folder : options.guarded) {
    config.guards.push_back(options.guard);
    config.guards.back().folder = folder;
    config.guards.back().deadline_ns = options.service.deadline_ns;
  }
  if (absl::Status status = CheckConfig(config, "--"); !status.ok()) return Complain(status);
  for (size_t i = 0; i < config.guards.size(); ++i) {
    options.guarded[i] = std::filesystem::canonical(options.guarded[i]).string();
    config.guards[i].folder = options.guarded[i];
  }
  absl::StatusOr<Instance> instance = Instance::Claim(options.guarded);
  if (!instance.ok()) return Complain(instance.status());

  StatusLine line(options.quiet);
  options.service.on_event = [&line](const DriverEvent& event) { line.Event(event); };
  const auto tell = [&line](const GuardProtection& guard) {
    guard.level == BH_PROTECTION_FULL ? line.Text(ProtectionText(guard))
                                      : line.Warn(ProtectionText(guard));
  };
  absl::StatusOr<ChosenAttachment> chosen =
      CreateAttachment(program.attachments, config.attachment, NeedsOf(config, "--"),
                       {.log = [&line](const std::string& text) { line.Text(text); },
                        .on_protection = tell,
                        .accepted = config.accepted});
  if (!chosen.ok()) return Complain(chosen.status());
  const AttachmentKind& kind = *chosen->kind;
  Attachment& attachment = *chosen->attachment;
  // On each way out: a request that the shim never answers keeps the attachment.
  const absl::Cleanup stop_attachment = [&attachment] { attachment.Stop(); };
  absl::StatusOr<std::unique_ptr<Service>> service = Service::Start(
      EnvironmentOf(program, options.service), config, SharedLink(chosen->attachment), kind.name);
  if (!service.ok()) return Complain(service.status());
  const auto complete = [&](StatusFields& status) {
    const Attachment::ShimProcess shim = attachment.shim_process();
    for (GuardProtection& guard : ProtectionsOf(attachment, config, (*service)->supervisor())) {
      status.guards.push_back({.folder = std::move(guard.folder),
                               .protection = {guard.level, std::move(guard.reasons)},
                               .losses = guard.losses});
    }
    status.shim_pid = shim.pid;
    status.shim_incarnation = shim.incarnation;
    status.filtered = CounterNamed(kind, attachment.CounterValues(), "filtered");
  };
  const UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  absl::StatusOr<std::unique_ptr<OperatorServer>> server =
      OperatorServer::Listen(InstanceSocket(getpid()), &(*service)->supervisor(), complete,
                             [&stop] { eventfd_write(stop.get(), 1); });
  if (!server.ok()) return Complain(server.status());
  for (const GuardSpec& guard : config.guards) {
    if (program.interrupted->load()) return Complain(absl::CancelledError("interrupted"));
    if (absl::Status status = attachment.Guard(guard).status(); !status.ok()) {
      return Complain(status);
    }
    line.Text(absl::StrCat("guards ", guard.folder, "; Ctrl-C ends it"));
  }
  if (absl::Status status = attachment.Settle(); !status.ok()) return Complain(status);
  for (const GuardProtection& guard : ProtectionsOf(attachment, config, (*service)->supervisor())) {
    if (guard.level != BH_PROTECTION_FULL) tell(guard);
  }

  // Not before: a start takes as long as its drivers and folders do. Nor after the line below, on
  // which others may send two signals.
  EndInOrder();
  if (options.ready_fd >= 0) {
    (void)!write(options.ready_fd, "\n", 1);
    close(options.ready_fd);
  }
  pollfd stopped = {stop.get(), POLLIN, 0};
  while (!program.interrupted->load() && poll(&stopped, 1, 1000) != 1) {  // a signal ends it early
    attachment.Protections();
    if (TakeHangup()) {
      line.Text("SIGHUP: the guards stay, and there is nothing to read again; SIGTERM ends it");
    }
    line.Show((*service)->supervisor().Status(), attachment.CounterValues().front(), 1.0);
  }
  line.End();
  const std::vector<uint64_t> counters = attachment.CounterValues();
  attachment.RemoveGuards();  // from here on no open waits
  line.Text("ends: opens pass unasked from here on");
  (*service)->Stop();
  server->reset();  // no request for content waits any more
  if (options.json.empty()) return kExitOk;
  Report report("run");
  for (size_t i = 0; i < kind.counters.size(); ++i) {
    report.AddInfo(kind.counters[i], static_cast<double>(counters[i]), "");
  }
  const absl::Status written = report.WriteJson(options.json);
  return written.ok() ? kExitOk : Complain(written);
}

struct Instances {
  std::vector<std::pair<std::string, StatusFields>> answered;  // with their sockets
  std::vector<std::pair<std::string, std::string>> silent;     // pid and error
};

// Every instance whose process listens; a socket on which no process listens means nothing. The
// silent ones are named on standard error.
Instances FindInstances() {
  constexpr uint64_t kStatusWithinNs = 3 * kNanosecondsPerSecond;  // of each
  Instances found;
  for (const std::string& path : InstanceSockets()) {
    absl::StatusOr<ControlMessage> answer = AskInstance(path, MakeGetStatus(), kStatusWithinNs);
    if (absl::IsNotFound(answer.status())) continue;
    if (const auto* status = answer.ok() ? answer->as<wire::Status>() : nullptr) {
      found.answered.emplace_back(path, ReadStatus(*status));
      continue;
    }
    std::string error = std::string(answer.status().message());
    if (const auto* done = answer.ok() ? answer->as<wire::Done>() : nullptr) {
      error = done->error() != nullptr ? done->error()->str() : "it answered Done";
    } else if (answer.ok()) {
      error = absl::StrCat("it answered ", answer->name());
    }
    found.silent.emplace_back(std::filesystem::path(path).stem(), std::move(error));
    std::fprintf(stderr,
                 "bulkhead: instance %s does not answer (%s): its guards may hold; look at that "
                 "process, or end it\n",
                 found.silent.back().first.c_str(), found.silent.back().second.c_str());
  }
  return found;
}

// "5 by policy (2 absent, 3 hung)": the number before the name, '_' as a blank.
std::string CounterText(const StatisticRow& row, absl::Span<const uint64_t> words) {
  uint64_t sum = 0;
  std::string parts;
  for (uint32_t part = 0; part < row.count; ++part) {
    const uint64_t number = words[row.first + part];
    sum += number;
    if (row.part_name == nullptr || number == 0) continue;
    absl::StrAppend(&parts, parts.empty() ? " (" : ", ", number, " ", row.part_name(part));
  }
  if (!parts.empty()) parts += ")";
  return absl::StrCat(sum, " ", absl::StrReplaceAll(row.name, {{"_", " "}}), parts);
}

void PrintCounters(const bh_statistics& statistics, StatisticGroup group) {
  std::string line;
  for (const StatisticRow& row : kStatistics) {
    if (row.group != group) continue;
    absl::StrAppend(&line, line.empty() ? "    " : ", ", CounterText(row, WordsOf(statistics)));
  }
  std::printf("%s\n", line.c_str());
}

// {"calls": 5, ..., "by_policy": {"absent": 2, ...}, ...}: the rows of ipc/abi/statistics.def.
nlohmann::ordered_json CountersOf(const bh_statistics& statistics) {
  const absl::Span<const uint64_t> words = WordsOf(statistics);
  nlohmann::ordered_json counters;
  for (const StatisticRow& row : kStatistics) {
    if (row.part_name == nullptr) {
      counters[row.name] = words[row.first];
      continue;
    }
    for (uint32_t part = 0; part < row.count; ++part) {
      counters[row.name][row.part_name(part)] = words[row.first + part];
    }
  }
  return counters;
}

// A shim that is silent for so long does not answer, and `status` fails.
constexpr uint64_t kShimSilentMs = 1000;
// Nor does one that has not answered this request: Supervisor::Status() waits that long for it.
constexpr uint64_t kCountersOldMs = 750;

void PrintProtection(const std::string& what, const ProtectionFields& protection) {
  std::printf("%sprotection %s\n", what.c_str(), bh_protection_name(protection.level));
  for (const std::string& reason : protection.reasons) {
    std::printf("      %s\n", Printable(reason).c_str());
  }
}

// `check`: 1 also when the protection of a guard or a driver is not full.
int ShowStatus(const std::string& json, bool check) {
  const Instances instances = FindInstances();
  const bool none = instances.answered.empty() && instances.silent.empty();
  if (none) std::printf("no instance of bulkhead runs (or none that this user may see)\n");
  int code = none || !instances.silent.empty() ? kExitFailed : kExitOk;
  Report report("status");
  report.AddInfo("instances", static_cast<double>(instances.answered.size()), "");
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& [path, status] : instances.answered) {
    std::printf("pid %u, %s, up %lu s, shim %u (incarnation %u)\n", status.pid,
                status.attachment.c_str(), static_cast<unsigned long>(status.uptime_ms / 1000),
                status.shim_pid, status.shim_incarnation);
    nlohmann::ordered_json guards = nlohmann::ordered_json::array();
    for (const GuardStatusFields& guard : status.guards) {
      PrintProtection(absl::StrCat("  guards ", Printable(guard.folder), ": "), guard.protection);
      if (guard.losses != 0) {
        std::printf("      was found to be gone %lu times\n",
                    static_cast<unsigned long>(guard.losses));
      }
      if (check && guard.protection.level != BH_PROTECTION_FULL) code = kExitFailed;
      guards.push_back({{"folder", guard.folder},
                        {"protection", bh_protection_name(guard.protection.level)},
                        {"reasons", guard.protection.reasons},
                        {"losses", guard.losses}});
    }
    if (check && status.guards.empty()) {
      std::printf("  guards nothing\n");
      code = kExitFailed;
    }
    if (status.filtered != 0) {
      std::printf("  asked no driver about %lu filtered accesses\n",
                  static_cast<unsigned long>(status.filtered));
    }
    nlohmann::ordered_json drivers = nlohmann::ordered_json::array();
    for (const DriverStatusFields& driver : status.drivers) {
      const std::string process = driver.pid == 0 ? "no process" : absl::StrCat("pid ", driver.pid);
      std::printf("  %s %s: %s, generation %u, %s, content %lu (good: %lu), %lu restarts%s%s\n",
                  Printable(driver.name).c_str(), Printable(driver.version).c_str(),
                  Printable(driver.state).c_str(), driver.generation, process.c_str(),
                  static_cast<unsigned long>(driver.content_version),
                  static_cast<unsigned long>(driver.last_known_good),
                  static_cast<unsigned long>(driver.restarts),
                  driver.last_end.empty() ? "" : ", last: ", Printable(driver.last_end).c_str());
      PrintProtection("    ", driver.protection);
      if (check && driver.protection.level != BH_PROTECTION_FULL) code = kExitFailed;
      if (driver.shim_silent_ms >= kShimSilentMs) {
        std::printf("    the shim has not answered for %lu ms\n",
                    static_cast<unsigned long>(driver.shim_silent_ms));
        code = kExitFailed;
      }
      if (!driver.shim_error.empty()) {
        std::printf("    error of the shim: %s\n", Printable(driver.shim_error).c_str());
        code = kExitFailed;
      }
      if (driver.statistics_age_ms >= kCountersOldMs) {
        std::printf("    the numbers below are %lu ms old\n",
                    static_cast<unsigned long>(driver.statistics_age_ms));
        code = kExitFailed;
      }
      PrintCounters(driver.statistics, StatisticGroup::CALLS);
      if (driver.statistics.notified != 0) {
        PrintCounters(driver.statistics, StatisticGroup::NOTIFICATIONS);
      }
      drivers.push_back(
          {{"name", driver.name},
           {"version", driver.version},
           {"state", driver.state},
           {"generation", driver.generation},
           {"pid", driver.pid == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(driver.pid)},
           {"content", driver.content_version},
           {"last_known_good", driver.last_known_good},
           {"restarts", driver.restarts},
           {"start_failures", driver.start_failures},
           {"last_end", driver.last_end},
           {"protection", bh_protection_name(driver.protection.level)},
           {"reasons", driver.protection.reasons},
           {"shim_silent_ms", driver.shim_silent_ms},
           {"shim_error", driver.shim_error},
           {"counters_age_ms", driver.statistics_age_ms},
           {"counters", CountersOf(driver.statistics)}});
    }
    list.push_back({{"pid", status.pid},
                    {"attachment", status.attachment},
                    {"guards", guards},
                    {"uptime_ms", status.uptime_ms},
                    {"filtered", status.filtered},
                    {"drivers", drivers}});
  }
  if (json.empty()) return code;
  report.SetDetail("running", list);
  nlohmann::ordered_json silent = nlohmann::ordered_json::array();
  for (const auto& [pid, error] : instances.silent) {
    silent.push_back({{"instance", pid}, {"error", error}});
  }
  report.SetDetail("silent", silent);
  const absl::Status written = report.WriteJson(json);
  return written.ok() ? code : Complain(written);
}

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
  AddOperator(app, run);
}

void AddOperator(CLI::App& app, std::function<int()>* run) {
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
  content->add_option("--rules", *rules, "Folder with the new content")
      ->required()
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
