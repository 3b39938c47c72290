// SPDX-License-Identifier: Apache-2.0
#include "host/service/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "host/attachment/registry.h"
#include "host/service/config_values.h"
#include "host/service/event_fields.h"
#include "host/service/event_history.h"
#include "host/service/hosts_scope.h"
#include "host/service/metrics_server.h"
#include "host/service/metrics_text.h"
#include "host/service/page_admin.h"
#include "host/service/peers.h"
#include "host/service/reload.h"
#include "host/service/service.h"
#include "host/service/service_manager.h"
#include "host/service/web_page.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/abi/names.h"
#include "ipc/monotonic.h"
#include "ipc/mutex.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

// In the store: channels, attachment and guards, with a NUL between them. Behind the names of all
// other items: a store that is filled again has it when it has them.
constexpr char kServiceItem[] = "whole";
// Raised when a service can't go on any more with what attachments have left in a release before.
constexpr int kRecordsVersion = 2;
// Of guards while they change: of no configuration, so that the next service sets its own anew.
constexpr char kChanging[] = "changing\n";
// How often starts have failed since one was ready.
constexpr char kFailedItem[] = "failed";
constexpr uint32_t kFailedStartsMax = 3;
constexpr uint64_t kLookEveryNs = kNanosecondsPerSecond;
// A loop that does not turn for as long is one that a restart helps.
constexpr uint64_t kTurnsWithinNs = kNanosecondsPerSecond;
constexpr uint64_t kMetricsAgeNsMax = kNanosecondsPerSecond / 4;
constexpr uint64_t kPolicyWithinNs = 5 * kNanosecondsPerSecond;
// Until a driver that was released serves.
constexpr uint64_t kReleaseWithinNs = 60 * kNanosecondsPerSecond;
// More than a driver may take to start: each tells the manager anew.
constexpr uint64_t kStartsWithinNs = 90 * kNanosecondsPerSecond;

std::string ProtectionText(const GuardProtection& guard) {
  std::string text =
      absl::StrCat("guard of ", guard.folder, ": protection ", bh_protection_name(guard.level));
  for (const std::string& reason : guard.reasons) absl::StrAppend(&text, "; ", reason);
  if (guard.losses != 0) {
    absl::StrAppend(&text, "; it was found to be gone ", guard.losses, " times");
  }
  return text;
}

constexpr char kAuditedGuard[] = "audit: what is denied there is recorded, and goes on";

// No more than degraded, for this reason first.
void Degrade(GuardProtection& guard, std::string reason) {
  guard.level = std::min(guard.level, BH_PROTECTION_DEGRADED);
  guard.reasons.insert(guard.reasons.begin(), std::move(reason));
}

// Compared with the kernel, and with what the drivers have registered for: a guard about whose
// events none is asked protects nothing, and one that is audited denies nothing.
std::vector<GuardProtection> ProtectionsOf(Attachment& attachment,
                                           const std::vector<GuardSpec>& guards,
                                           const Supervisor& supervisor) {
  std::vector<GuardProtection> protections = attachment.Protections();
  const bh_callback_set asked = supervisor.AskedAbout();
  const bh_callback_set enforced = supervisor.EnforcedAbout();
  for (const GuardSpec& spec : guards) {
    bh_callback_set denied = spec.callbacks;
    bh_set_and(&denied, &enforced);
    for (GuardProtection& guard : protections) {
      if (guard.folder != spec.folder) continue;
      if (spec.mode == BH_MODE_AUDIT) {
        Degrade(guard, kAuditedGuard);
      } else if (bh_set_empty(&denied) != 0) {
        Degrade(guard, "audit: no driver that is asked about its events is enforced");
      }
    }
    bh_callback_set both = spec.callbacks;
    bh_set_and(&both, &asked);
    if (bh_set_empty(&both) == 0) continue;
    for (GuardProtection& guard : protections) {
      if (guard.folder != spec.folder) continue;
      guard.level = BH_PROTECTION_NONE;
      guard.reasons.insert(
          guard.reasons.begin(),
          absl::StrCat("no driver has registered for its events (", EventList(spec.callbacks),
                       "): choose others with --events, or another driver"));
    }
  }
  return protections;
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

// The state, as readers of HTTP get it.
struct Snapshot {
  uint64_t at_ns = 0;  // 0: none was taken
  std::string metrics;
  std::string status;  // empty without a page
};

// The parts of a running service, in the order in which they end.
class Daemon {
 public:
  Daemon(const Program& program, const DaemonOptions& options, ServiceLog& log)
      : program_(program), log_(log), options_(options), config_(options.config) {}

  absl::StatusOr<std::vector<CounterFields>> Run() {
    if (absl::Status status = Prepare(); !status.ok()) return status;
    absl::StatusOr<Instance> instance = Instance::Claim(FoldersOf(config_));
    if (!instance.ok()) return instance.status();
    instance_ = &*instance;
    if (absl::Status status = OpenStore(); !status.ok()) return status;
    EnterScope();
    // A start that failed leaves nothing that the next could fail over, too.
    const absl::Cleanup forget = [this] { ForgetAll(); };
    absl::StatusOr<ChosenAttachment> chosen = Attach();
    if (!chosen.ok()) return Failed(chosen.status());
    kind_ = chosen->kind;
    attachment_ = chosen->attachment.get();
    // On each way out: a request that the shim never answers keeps the attachment.
    const absl::Cleanup stop_attachment = [this] {
      ForgetAll();  // the shim ends when all copies of its sockets are closed
      attachment_->Stop();
    };
    Remember();
    const std::shared_ptr<ShimLink> link = SharedLink(chosen->attachment);
    if (absl::Status status = StartService(link); !status.ok()) return Failed(status);
    const UniqueFd stop(eventfd(0, EFD_CLOEXEC));
    if (config_.page) page_admin_ = std::make_unique<PageAdmin>(PageHooks());
    absl::StatusOr<std::unique_ptr<OperatorServer>> server = OperatorServer::Listen(
        InstanceSocket(getpid()), &supervisor(),
        {.complete = [this](StatusFields& status) { Complete(status); },
         .shut_down = [this, &stop](HostsAtStop hosts) { return ShutDown(hosts, stop.get()); },
         .reload = [this] { return Reload(); },
         .sign_in = [this](const OperatorPeer& who) { return SignInLink(who); },
         .events = [this](uint64_t after, bool words) { return history_.After(after, words); }});
    if (!server.ok()) return Failed(server.status());
    {
      const MutexLock lock(server_mutex_);
      server_ = server->get();
    }
    const absl::Cleanup end_readers = [this] { EndReaders(); };
    if (absl::Status status = AdmitOperators(config_.operators); !status.ok()) {
      return Failed(status);
    }
    if (absl::Status status = ServeReaders(); !status.ok()) return Failed(status);
    Peers peers(link.get());
    peers.Look();
    if (absl::Status status = SetGuards(); !status.ok()) return Failed(status);
    if (store() != nullptr) store_->Remove(kFailedItem);
    SayReady();
    while (Wait(stop.get())) Look(peers);
    manager_.Stopping();
    if (HostsStay()) {
      Happened(DriverEventKind::kServiceEnds, "its hosts and guards stay");
      EndReaders();
      server->reset();
      log_.Flush();
      // What this process has is in the store as well; nothing of it may be put away.
      _exit(0);
    }
    const std::vector<uint64_t> counters = attachment_->CounterValues();
    attachment_->RemoveGuards();  // from here on no open waits
    Happened(DriverEventKind::kServiceEnds);
    service_->Stop();
    EndReaders();  // no request waits any more
    server->reset();
    std::vector<CounterFields> counts;
    for (size_t i = 0; i < kind_->counters.size(); ++i) {
      counts.push_back({kind_->counters[i], counters[i]});
    }
    return counts;
  }

 private:
  Supervisor& supervisor() { return service_->supervisor(); }

  static std::vector<std::string> FoldersOf(const ServiceConfig& config) {
    std::vector<std::string> folders;
    for (const GuardSpec& guard : config.guards) folders.push_back(guard.folder);
    return folders;
  }

  absl::Status Prepare() {
    IgnoreStraySignals();
    OutliveWantOfMemory();
    // Before a file of ours takes the number.
    if (options_.ready_fd >= 0 && fcntl(options_.ready_fd, F_GETFD) < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--ready-fd ", options_.ready_fd, ": no such descriptor is open here"));
    }
    return Resolve(config_);
  }

  // ---- What is left to the next service, and was left by the one before

  // Null also once nothing is to be left.
  DescriptorStore* store() const {
    return store_ != nullptr && !store_->forgotten() ? store_.get() : nullptr;
  }

  absl::Status OpenStore() {
    if (!options_.outlives) return absl::OkStatus();
    for (int attempt = 0;; ++attempt) {
      absl::StatusOr<std::unique_ptr<DescriptorStore>> store =
          DescriptorStore::Open({.path = StorePath(RunFolder(), options_.config_path),
                                 .program = program_.StoreProgram(),
                                 .log = [this](const std::string& text) { log_.Text(text); }});
      if (!store.ok()) return store.status();
      store_ = *std::move(store);
      const std::optional<DescriptorStore::Item> left = store_->Get(kServiceItem);
      if (!left && store_->Names("").empty()) return absl::OkStatus();
      absl::Status fits = left ? FitsTo(left->bytes) : absl::NotFoundError("it is not whole");
      if (fits.ok()) return absl::OkStatus();
      log_.Text(absl::StrCat("what the service before has left is ended, and not gone on with: ",
                             std::string(fits.message())));
      ForgetAll();
      if (attempt != 0) return fits;
    }
  }

  // Under systemd, the store and what it holds must not be in this service's control group.
  void EnterScope() {
    if (store() == nullptr || !manager_.present()) return;
    std::ifstream groups("/proc/self/cgroup");
    HostsScope scope = HostsScope::Of({std::istreambuf_iterator<char>(groups), {}});
    if (scope.unit.empty()) return;
    const absl::StatusOr<pid_t> process = store_->Process();
    absl::Status status = process.ok() ? scope.Enter(*process) : process.status();
    if (!status.ok()) {
      log_.Warn(
          absl::StrCat("hosts and guards end with this service, however it ends: there is no ",
                       scope.unit, ": ", std::string(status.message())));
      return;
    }
    store_->SetGroup(scope.members);
    scope_ = std::move(scope);
  }

  // The service before had the same drivers, with the same channels.
  absl::Status FitsTo(const std::string& left) {
    const std::vector<std::string> parts =
        absl::StrSplit(left, absl::MaxSplits(absl::ByChar('\0'), 2));
    const absl::StatusOr<std::string> channels = ChannelsText(config_);
    if (!channels.ok()) return channels.status();
    if (parts.size() != 3 || parts[0] != LeftBy(*channels)) {
      return absl::FailedPreconditionError("its drivers or their channels were others");
    }
    if (store_->Names("driver/").size() != config_.drivers.size()) {
      return absl::FailedPreconditionError("it had not started yet");
    }
    if (config_.attachment != "auto" && config_.attachment != parts[1]) {
      return absl::FailedPreconditionError(absl::StrCat("its attachment was ", parts[1]));
    }
    left_attachment_ = parts[1];
    left_guards_ = parts[2];
    return absl::OkStatus();
  }

  static std::string GuardsText(const ServiceConfig& config) {
    std::string text;
    for (const GuardSpec& guard : config.guards) {
      absl::StrAppend(&text, guard.folder, "|", MarkKindName(guard.mark), "|", guard.deadline_ns,
                      "|", EventList(guard.callbacks), "|", static_cast<int>(guard.filter.mode),
                      "|", guard.filter.owner ? absl::StrCat(*guard.filter.owner) : "", "|",
                      absl::StrJoin(guard.filter.skip_under, "|"), "||", bh_mode_name(guard.mode),
                      "|", absl::StrJoin(guard.filter.extensions, "|"), "\n");
    }
    return text;
  }

  // An attachment that can't be gone on with has put nothing into the store.
  void Remember() { Remember(GuardsText(config_)); }
  void Remember(const std::string& guards) {
    if (store() == nullptr) return;
    if (store_->Names("").empty()) return ForgetAll();
    const absl::StatusOr<std::string> channels = ChannelsText(config_);
    if (!channels.ok()) return;
    store_->Put(kConfigItem, options_.config_path, {});
    store_->Put(kServiceItem,
                absl::StrCat(LeftBy(*channels), std::string(1, '\0'), kind_->name,
                             std::string(1, '\0'), guards),
                {});
  }

  static std::string LeftBy(const std::string& channels) {
    return absl::StrCat("records ", kRecordsVersion, ", ", channels);
  }

  // Ends hosts and shim that were left, unless this process has ended them by now.
  void ForgetAll() {
    if (store() == nullptr) return;
    // With an attachment, that ends the shim.
    const absl::Status ended = EndLeft(*store_, /*shim_too=*/attachment_ == nullptr);
    if (!ended.ok()) log_.Text(std::string(ended.message()));
  }

  // A start that goes on with what serves must not end it because of something else, as a port that
  // is taken: it is left to the next start again. Not without end: it could be what the starts fail
  // over.
  absl::Status Failed(const absl::Status& status) {
    if (left_attachment_.empty() || store() == nullptr) return status;
    const std::optional<DescriptorStore::Item> before = store_->Get(kFailedItem);
    uint32_t times = 0;
    if (before && !absl::SimpleAtoi(before->bytes, &times)) times = kFailedStartsMax;
    const bool asked = absl::IsCancelled(status);
    if (asked ? !HostsStay() : times + 1 >= kFailedStartsMax) return status;
    if (!asked) store_->Put(kFailedItem, absl::StrCat(times + 1), {});
    if (!store_->Holds()) return status;
    log_.Warn(absl::StrCat(std::string(status.message()),
                           "; what the service before has left serves on, for the next start"));
    log_.Flush();
    // Where it listens already.
    (void)unlink(InstanceSocket(getpid()).c_str());
    (void)unlink(GroupSocket(getpid()).c_str());
    _exit(asked ? 0 : 1);
  }

  absl::Status AdmitOperators(const OperatorGroups& groups) {
    if (groups.any()) {
      if (absl::Status status = MakeGroupFolder(); !status.ok()) return status;
    }
    const MutexLock lock(server_mutex_);
    if (server_ == nullptr) return absl::CancelledError("the service ends");
    return server_->Admit(GroupSocket(getpid()), groups);
  }

  absl::Status ShutDown(HostsAtStop hosts, int stop) {
    if (hosts == HostsAtStop::kStay && store() != nullptr && !store_->Holds()) {
      return absl::UnavailableError(
          "hosts and guards can't stay: what would hold them can't be started; see the log");
    }
    if (hosts == HostsAtStop::kStay && store() == nullptr) {
      return absl::FailedPreconditionError(
          "hosts and guards of this instance can't stay without it: only those of a bulkheadd can, "
          "whose attachment goes on by itself");
    }
    hosts_at_stop_.store(hosts);
    eventfd_write(stop, 1);
    return absl::OkStatus();
  }

  bool HostsStay() {
    if (store() == nullptr) return false;
    const HostsAtStop hosts = hosts_at_stop_.load();
    const MutexLock lock(config_mutex_);
    return (hosts == HostsAtStop::kStay ||
            (hosts == HostsAtStop::kAsConfigured && config_.on_stop == OnStop::kKeep)) &&
           store_->Holds();
  }

  // ---- The start

  // Checks it, and makes the folders of its guards canonical.
  absl::Status Resolve(ServiceConfig& config) const {
    if (absl::Status status = CheckConfig(config, options_.field_prefix); !status.ok()) {
      return status;
    }
    for (GuardSpec& guard : config.guards) {
      std::error_code error;
      const std::filesystem::path folder = std::filesystem::canonical(guard.folder, error);
      if (error) {
        return absl::NotFoundError(
            absl::StrCat("can't guard ", guard.folder, ": ", error.message()));
      }
      guard.folder = folder.string();
    }
    return absl::OkStatus();
  }

  void Happened(const DriverEvent& event) {
    history_.Add(event, WallClockUs());
    log_.Event(event);
  }

  void Happened(DriverEventKind kind, std::string text = "") {
    DriverEvent event = DriverEvent::Of(kind);
    event.text = std::move(text);
    Happened(event);
  }

  // Any thread.
  void Tell(GuardProtection guard) {
    {
      const MutexLock lock(audited_mutex_);
      if (audited_.count(guard.folder) != 0) Degrade(guard, kAuditedGuard);
    }
    TellAll(guard);
  }

  void TellAll(const GuardProtection& guard) {
    DriverEvent event = DriverEvent::Of(DriverEventKind::kProtection);
    if (guard.level == BH_PROTECTION_FULL) event.level = DriverEvent::Level::kInfo;
    event.number = guard.level;
    event.text = ProtectionText(guard);
    Happened(event);
  }

  absl::StatusOr<ChosenAttachment> Attach() {
    return CreateAttachment(program_.attachments,
                            left_attachment_.empty() ? config_.attachment : left_attachment_,
                            NeedsOf(config_, options_.field_prefix),
                            {.log = [this](const std::string& text) { log_.Text(text); },
                             .on_protection = [this](const GuardProtection& guard) { Tell(guard); },
                             .accepted = config_.accepted,
                             .store = store_,
                             .shim_group = scope_.members});
  }

  absl::Status StartService(const std::shared_ptr<ShimLink>& link) {
    manager_.Starting("starts its drivers", kStartsWithinNs);
    absl::StatusOr<std::unique_ptr<Service>> service = Service::Start(
        {.host_program = program_.HostPath(),
         .now_ns = program_.now_ns,
         .chance = program_.chance,
         .on_event = [this](const DriverEvent& event) { Happened(event); },
         .on_progress =
             [this](const std::string& driver) {
               manager_.Starting(absl::StrCat("starts the driver ", driver), kStartsWithinNs);
             },
         .interrupted = program_.interrupted,
         .store = store(),
         .hosts_group = scope_.folder},
        config_, link, kind_->name);
    if (!service.ok()) return service.status();
    service_ = *std::move(service);
    if (left_attachment_.empty()) return absl::OkStatus();
    // The channels are those of the service before, with its policies and modes: what this one says
    // that it is ready with is in force.
    for (size_t i = 0; i < service_->drivers().size(); ++i) {
      absl::Status status = supervisor().SetPolicy(
          service_->drivers()[i], config_.drivers[i].policy, MonotonicAfterNs(kPolicyWithinNs));
      if (!status.ok()) log_.Warn(std::string(status.message()));
    }
    return absl::OkStatus();
  }

  absl::Status SetGuards() {
    const MutexLock lock(config_mutex_);
    NoteModes();
    const bool are_others = !left_attachment_.empty() && left_guards_ != GuardsText(config_);
    if (are_others) {
      log_.Text("the guards are others than the service before had: they are set anew");
      manager_.Starting("sets other guards", kStartsWithinNs);
      absl::Status status = attachment_->Reguard(config_.guards);
      if (absl::IsResourceExhausted(status)) {
        log_.Warn(absl::StrCat("nothing is guarded for a moment: ", std::string(status.message())));
        attachment_->RemoveGuards();
        status = attachment_->Reguard(config_.guards);
      }
      if (!status.ok()) return status;
      Remember();
    }
    for (const GuardSpec& guard : config_.guards) {
      if (program_.interrupted->load()) return absl::CancelledError("interrupted");
      manager_.Starting(absl::StrCat("sets the guard of ", guard.folder), kStartsWithinNs);
      if (!are_others) {
        if (absl::Status status = attachment_->Guard(guard).status(); !status.ok()) return status;
      }
      log_.Text(absl::StrCat("guards ", guard.folder,
                             options_.config_path.empty() ? "; Ctrl-C ends it" : ""));
    }
    if (absl::Status status = attachment_->Settle(); !status.ok()) return status;
    for (const GuardProtection& guard : ProtectionsOf(*attachment_, config_.guards, supervisor())) {
      if (guard.level != BH_PROTECTION_FULL) TellAll(guard);
    }
    return absl::OkStatus();
  }

  void SayReady() {
    // Not before: a start takes as long as its drivers and folders do. Nor after the line below, on
    // which others may send two signals.
    EndInOrder();
    said_ = Summary();
    Happened(DriverEventKind::kServiceReady, said_);
    log_.Flush();
    manager_.Ready(said_);
    if (options_.ready_fd < 0) return;
    (void)!write(options_.ready_fd, "\n", 1);
    close(options_.ready_fd);
  }

  // False: the end was asked for.
  bool Wait(int stop) {
    uint64_t wait_ns = kLookEveryNs;
    if (manager_.alive_every_ns() != 0) wait_ns = std::min(wait_ns, manager_.alive_every_ns());
    pollfd stopped = {stop, POLLIN, 0};
    // A signal ends it early.
    const int asked =
        program_.interrupted->load()
            ? 1
            : poll(&stopped, 1, static_cast<int>(wait_ns / kNanosecondsPerMillisecond));
    return asked != 1 && !program_.interrupted->load();
  }

  // Once a second.
  void Look(Peers& peers) {
    const std::vector<GuardProtection> guards = attachment_->Protections();
    peers.Look();
    if (store() != nullptr) store_->Check();
    if (TakeHangup()) {
      if (options_.config_path.empty()) {
        log_.Text("SIGHUP: the guards stay, and there is nothing to read again; SIGTERM ends it");
      } else {
        Reload().IgnoreError();  // an event says how it went
      }
    }
    log_.Show(supervisor().Status(), attachment_->CounterValues().front(), 1.0);
    // Not when this is only because others are: the loop that starts hosts has to turn.
    if (supervisor().Turns(MonotonicAfterNs(kTurnsWithinNs))) manager_.Alive();
    manager_.Resend();
    const bool again = say_again_.exchange(false);
    if (std::string summary = Summary(); again || summary != said_) {
      manager_.Says(summary);
      said_ = std::move(summary);
    }
  }

  // "full protection of 2 folders", "DEGRADED: …"
  std::string Summary() {
    StatusFields status = supervisor().Status();
    Complete(status);
    bh_protection level = BH_PROTECTION_FULL;
    std::string why;
    const auto add = [&](const std::string& name, const ProtectionFields& protection) {
      if (protection.level >= level) return;
      level = protection.level;
      why = absl::StrCat(name, protection.reasons.empty() ? "" : ": ",
                         protection.reasons.empty() ? "" : protection.reasons.front());
    };
    for (const GuardStatusFields& guard : status.guards) add(guard.folder, guard.protection);
    for (const DriverStatusFields& driver : status.drivers) add(driver.name, driver.protection);
    std::string text =
        absl::StrCat("protection ", bh_protection_name(level), ", ", status.guards.size(),
                     " folders, ", status.drivers.size(), " drivers");
    if (!why.empty()) absl::StrAppend(&text, "; ", why);
    return text;
  }

  void Complete(StatusFields& status) {
    const Attachment::ShimProcess shim = attachment_->shim_process();
    std::vector<GuardSpec> guards;
    {
      const MutexLock lock(config_mutex_);
      guards = config_.guards;
    }
    for (GuardProtection& guard : ProtectionsOf(*attachment_, guards, supervisor())) {
      bh_mode mode = BH_MODE_ENFORCE;
      for (const GuardSpec& spec : guards) {
        if (spec.folder == guard.folder) mode = spec.mode;
      }
      status.guards.push_back({.folder = std::move(guard.folder),
                               .protection = {guard.level, std::move(guard.reasons)},
                               .losses = guard.losses,
                               .mode = mode});
    }
    status.config_path = options_.config_path;
    status.shim_pid = shim.pid;
    status.shim_incarnation = shim.incarnation;
    const std::vector<uint64_t> values = attachment_->CounterValues();
    for (size_t i = 0; i < values.size(); ++i) {
      status.counters.push_back({.name = kind_->counters[i], .value = values[i]});
    }
  }

  // ---- Readers over HTTP

  absl::Status ServeReaders() {
    if (config_.metrics.empty()) return absl::OkStatus();
    absl::StatusOr<std::unique_ptr<MetricsServer>> listening =
        MetricsServer::Listen(config_.metrics, Sources());
    if (!listening.ok()) return listening.status();
    metrics_ = *std::move(listening);
    if (page_admin_ == nullptr) return absl::OkStatus();
    // A tunnel's end has a port of its own.
    std::string at = "localhost";
    if (const uint16_t port = metrics_->port(); port != 0) {
      at = absl::StrCat(config_.metrics.substr(0, config_.metrics.rfind(':')), ":", port);
    }
    const MutexLock lock(server_mutex_);
    page_at_ = absl::StrCat("http://", at, "/");
    return absl::OkStatus();
  }

  // Waits for what a user of the page has asked for.
  void EndReaders() {
    {
      const MutexLock lock(server_mutex_);
      page_at_.clear();
    }
    metrics_.reset();
    page_admin_.reset();
    const MutexLock lock(server_mutex_);
    server_ = nullptr;
  }

  PageAdmin::Hooks PageHooks() {
    return {
        .may_change =
            [this](const OperatorPeer& who) {
              const MutexLock lock(server_mutex_);
              return server_ != nullptr && server_->MayChange(who);
            },
        .reload = [this] { return Reload(); },
        .release =
            [this](const std::string& driver) {
              return supervisor().LiftQuarantine(driver, MonotonicAfterNs(kReleaseWithinNs));
            },
        .used = [this](const std::string& text) { Happened(DriverEventKind::kPageUsed, text); }};
  }

  absl::StatusOr<std::string> SignInLink(const OperatorPeer& who) {
    const MutexLock lock(server_mutex_);
    if (page_at_.empty()) {
      return absl::FailedPreconditionError(
          "this instance has no page: metrics and page = true in its configuration give it one");
    }
    return absl::StrCat(page_at_, "#sign-in=", page_admin_->MakeLink(who));
  }

  WebSources Sources() {
    WebSources sources = {.metrics = [this] { return Seen(false).metrics; }};
    if (page_admin_ != nullptr) {
      sources.status = [this](bool words) { return Seen(words).status; };
      sources.events = [this](uint64_t after, bool words) {
        return EventsBody(history_.After(after, words));
      };
      sources.admin = page_admin_.get();
    }
    return sources;
  }

  // Of the one thread that answers. Any user may ask on a port, as often as it can: each look asks
  // the shim.
  const Snapshot& Seen(bool words) {
    Snapshot& seen = seen_[words ? 1 : 0];
    if (seen.at_ns != 0 && MonotonicNowNs() - seen.at_ns < kMetricsAgeNsMax) return seen;
    StatusFields status = supervisor().Status(words);
    Complete(status);
    seen.metrics = MetricsText(status, history_.Counts());
    if (page_admin_ != nullptr) seen.status = StatusBody(status);
    seen.at_ns = MonotonicNowNs();
    return seen;
  }

  // Any thread, one at a time.
  absl::Status Reload() {
    if (options_.config_path.empty()) {
      return absl::FailedPreconditionError(
          "this instance was started with options, not with a configuration file: there is nothing "
          "to read again");
    }
    const MutexLock alone(reload_mutex_);
    manager_.Reloading();
    std::vector<std::string> changes;
    absl::Status status = ReadAgain(changes);
    std::string text = absl::StrJoin(changes, ", ");
    if (status.ok()) {
      Happened(DriverEventKind::kReloaded,
               absl::StrCat("reload: ", changes.empty() ? "nothing has changed" : text));
    } else {
      if (!changes.empty()) {
        status = absl::Status(status.code(),
                              absl::StrCat(std::string(status.message()), "; before that: ", text));
      }
      Happened(DriverEventKind::kReloadRefused, std::string(status.message()));
    }
    say_again_.store(true);
    manager_.Ready(Summary());
    return status;
  }

  // `changes`: what was changed, also when the rest failed.
  absl::Status ReadAgain(std::vector<std::string>& changes) {
    absl::StatusOr<ServiceConfig> next = UsableConfig(options_.config_path, program_.attachments);
    if (!next.ok()) return next.status();
    if (absl::Status status = Resolve(*next); !status.ok()) return status;
    ServiceConfig before;
    {
      const MutexLock lock(config_mutex_);
      before = config_;
    }
    const absl::StatusOr<ReloadPlan> plan = PlanReload(before, *next);
    if (!plan.ok()) return plan.status();
    if (absl::Status status = CheckNeeds(program_.attachments, *kind_, NeedsOf(*next));
        !status.ok()) {
      return status;
    }
    if (absl::Status status = instance_->Add(FoldersOf(*next)); !status.ok()) return status;
    // Of guards that are gone, or that did not come.
    const absl::Cleanup free_others = [this] {
      const MutexLock lock(config_mutex_);
      instance_->KeepOnly(FoldersOf(config_));
    };
    if (before.operators != next->operators) {
      if (absl::Status status = AdmitOperators(next->operators); !status.ok()) return status;
      changes.emplace_back("the groups of operators");
    }
    for (const size_t index : plan->content) {
      const std::string& driver = service_->drivers()[index];
      if (absl::Status status = PutReleaseInForce(
              driver, before.drivers[index],
              next->drivers[IndexOf(next->drivers, before.drivers[index].driver)], changes);
          !status.ok()) {
        return status;
      }
    }
    for (const auto& [index, policy] : plan->policies) {
      const std::string& driver = service_->drivers()[index];
      absl::Status status =
          supervisor().SetPolicy(driver, policy, MonotonicAfterNs(kPolicyWithinNs));
      if (!status.ok()) return status;
      const uint8_t mode = before.drivers[index].policy.mode;
      changes.push_back(policy.mode == mode ? absl::StrCat("the policy of ", driver)
                                            : absl::StrCat("the mode of ", driver, " is ",
                                                           bh_mode_name(policy.mode)));
    }
    if (plan->accepts) {
      attachment_->Accept(next->accepted);
      changes.emplace_back("the limits that are accepted");
    }
    if (!plan->guards.empty()) {
      if (absl::Status status = ChangeGuards(next->guards); !status.ok()) return status;
      changes.insert(changes.end(), plan->guards.begin(), plan->guards.end());
    }
    const MutexLock lock(config_mutex_);
    // In the order of the drivers that run, which is that of the names that the supervisor has.
    const std::vector<ServiceDriver> drivers = std::move(config_.drivers);
    config_ = *std::move(next);
    std::stable_sort(config_.drivers.begin(), config_.drivers.end(),
                     [&drivers](const ServiceDriver& a, const ServiceDriver& b) {
                       return IndexOf(drivers, a.driver) < IndexOf(drivers, b.driver);
                     });
    Remember();
    return absl::OkStatus();
  }

  // Of the guards that are in force, for Tell().
  void NoteModes() ABSL_EXCLUSIVE_LOCKS_REQUIRED(config_mutex_) {
    const MutexLock lock(audited_mutex_);
    audited_.clear();
    for (const GuardSpec& guard : config_.guards) {
      if (guard.mode == BH_MODE_AUDIT) audited_.insert(guard.folder);
    }
  }

  static size_t IndexOf(const std::vector<ServiceDriver>& drivers, const std::string& name) {
    size_t index = 0;
    while (index < drivers.size() && drivers[index].driver != name) ++index;
    return index;
  }

  absl::Status PutReleaseInForce(const std::string& driver, const ServiceDriver& before,
                                 const ServiceDriver& next, std::vector<std::string>& changes) {
    const absl::StatusOr<Manifest> manifest = FindDriver(before.driver, DriverSearchFolders());
    if (!manifest.ok()) return manifest.status();
    const std::string folder = ContentFolderOf(next, *manifest);
    const bool other_options = before.options != next.options;
    const auto running = [&]() -> uint64_t {
      for (const DriverStatusFields& fields : supervisor().Status().drivers) {
        if (fields.name == driver) return fields.content_version;
      }
      return 0;
    };
    const uint64_t version_before = running();
    const absl::StatusOr<uint64_t> version = supervisor().SetReleaseIfChanged(
        driver, folder, next.options, MonotonicAfterNs(kStartsWithinNs));
    if (!version.ok()) {
      const std::string what = absl::StrCat(
          other_options ? "options" : "content", " of ", driver,
          folder.empty() ? ""
                         : absl::StrCat(other_options ? ", with content from " : " from ", folder));
      return absl::Status(version.status().code(),
                          absl::StrCat(what, ": ", std::string(version.status().message())));
    }
    if (*version != version_before) {
      changes.push_back(absl::StrCat("content ", *version, " of ", driver, " is in force"));
    }
    if (other_options) changes.push_back(absl::StrCat("the options of ", driver));
    return absl::OkStatus();
  }

  // A service that is killed meanwhile has left the guards from before, or these, or both.
  absl::Status ChangeGuards(const std::vector<GuardSpec>& guards) {
    {
      const MutexLock lock(config_mutex_);
      Remember(kChanging);
    }
    absl::Status status = attachment_->Reguard(guards);
    const MutexLock lock(config_mutex_);
    if (status.ok()) config_.guards = guards;
    NoteModes();
    Remember();
    return status;
  }

  const Program& program_;
  ServiceLog& log_;
  const DaemonOptions options_;
  ServiceManager manager_;
  EventHistory history_;
  std::shared_ptr<DescriptorStore> store_;     // null: all ends with this process
  HostsScope scope_;                           // none: what is left ends with the service's group
  std::string left_attachment_, left_guards_;  // of the service before; empty: there was none
  std::atomic<HostsAtStop> hosts_at_stop_{HostsAtStop::kAsConfigured};
  const AttachmentKind* kind_ = nullptr;
  Attachment* attachment_ = nullptr;
  std::unique_ptr<Service> service_;
  std::unique_ptr<PageAdmin> page_admin_;
  std::unique_ptr<MetricsServer> metrics_;
  std::string said_;  // to the manager, by the main thread
  std::atomic<bool> say_again_{false};
  std::array<Snapshot, 2> seen_;  // without and with words, as they were told last
  Mutex server_mutex_;
  OperatorServer* server_ ABSL_GUARDED_BY(server_mutex_) = nullptr;
  std::string page_at_ ABSL_GUARDED_BY(server_mutex_);  // empty: there is no page, or not yet
  Mutex reload_mutex_;
  Instance* instance_ = nullptr;  // once it is there; a reload's
  Mutex config_mutex_;
  ServiceConfig config_;                                           // what is in force
  Mutex audited_mutex_;                                            // after config_mutex_
  std::set<std::string> audited_ ABSL_GUARDED_BY(audited_mutex_);  // folders of guards
};

}  // namespace

absl::StatusOr<std::vector<CounterFields>> RunDaemon(const Program& program,
                                                     const DaemonOptions& options,
                                                     ServiceLog& log) {
  return Daemon(program, options, log).Run();
}

absl::Status ReleaseLeft(const Program& program, const std::string& config_path) {
  const std::string path = StorePath(RunFolder(), config_path);
  if (access(path.c_str(), F_OK) != 0) return absl::OkStatus();
  const absl::StatusOr<std::unique_ptr<DescriptorStore>> store =
      DescriptorStore::Open({.path = path, .program = program.StoreProgram(), .log = {}});
  return store.ok() ? EndLeft(**store, /*shim_too=*/true) : store.status();
}

}  // namespace bulkhead
