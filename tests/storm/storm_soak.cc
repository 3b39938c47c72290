// SPDX-License-Identifier: Apache-2.0
//
// storm-soak: threads open files while each second one thing is done to the service that answers
// them: a host, the shim, bulkheadd or its store is killed or stopped, content is changed, the
// configuration is read again.
//
//   first half    everything, bulkheadd and the shim killed, too
//   second half   what leaves bulkheadd and the shim alive: their memory is compared with that
//                 after the first round of it, or, in the full form, with full histories of events
//   end           what they have of the machine is what they had before the second half; then a
//                 stop, after which nothing of them is there
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "host/service/event_history.h"
#include "host/service/temporary_folder.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/manifest.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "tests/storm/process_census.h"
#include "tests/storm/storm.h"
#include "tests/storm/storm_files.h"
#include "tests/testing/daemon_process.h"
#include "tests/testing/guarded_folder_fixture.h"
#include "tests/testing/stopped_process.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 10 * kNanosecondsPerSecond;
constexpr uint64_t kShortSeconds = 60, kFullSeconds = 30 * 60;
constexpr int kStoppedMs = 300;  // much less than a driver's share of the deadline
constexpr int kAgainMs = 20, kQuietMs = 500;
// In which more denials are recorded than a history keeps: a channel records ten a second.
constexpr uint64_t kDenialsFillNs = 120 * kNanosecondsPerSecond;
constexpr double kGrowthKibMax = 1024;
constexpr char kStateFolder[] = "/var/lib/bulkhead";
constexpr char kDenied[] =
    "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-"
    "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";

void Pause(uint64_t ms) { PollUntil(-1, 0, MonotonicAfterNs(ms * kNanosecondsPerMillisecond)); }

// What the machine has of the service at a quiet moment.
struct Census {
  MemoryUse supervisor, worker, keeper, store;
  size_t descriptors = 0, memfds = 0;  // of the four
  size_t zombies = 0, cgroups = 0, mounts = 0;
};

class Soak {
 public:
  Soak(const Program& program, DaemonProcess& daemon, std::string rules)
      : program_(program), daemon_(daemon), rules_(std::move(rules)) {}

  struct Act {
    const char* name;
    bool ends_service;  // bulkheadd or a process of the shim is another afterwards
    absl::Status (Soak::*run)();
    uint64_t times = 0;
  };
  std::vector<Act>& acts() { return acts_; }
  const std::set<pid_t>& services() const { return services_; }

  absl::Status Start() {
    const absl::Status started = daemon_.Start().status();
    services_.insert(daemon_.pid());
    return started;
  }

  // Every act once, in any order, and again until then.
  absl::Status Run(uint64_t until_ns, uint64_t every_ms, bool ends_service) {
    std::vector<Act*> round;
    for (Act& act : acts_) {
      if (ends_service || !act.ends_service) round.push_back(&act);
    }
    do {
      std::shuffle(round.begin(), round.end(), random_);
      for (Act* act : round) {
        if (program_.interrupted->load()) return absl::CancelledError("interrupted");
        Pause(every_ms);
        ReapOrphans();
        if (absl::Status done = (this->*act->run)(); !done.ok()) {
          return absl::Status(done.code(), absl::StrCat(act->name, ": ", done.message()));
        }
        ++act->times;
      }
    } while (MonotonicNowNs() < until_ns);
    return absl::OkStatus();
  }

  // A history of events grows to its bounds, and no further.
  absl::Status FillHistory(uint64_t every_ms) {
    for (size_t i = 0; i < EventHistory::kEventsMax; ++i) {
      if (program_.interrupted->load()) return absl::CancelledError("interrupted");
      if (absl::Status reload = Reload(); !reload.ok()) return reload;
    }
    return Run(MonotonicAfterNs(kDenialsFillNs), every_ms, false);
  }

  // When all serve again, and what was replaced has closed its descriptors.
  absl::StatusOr<Census> Count() {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    absl::StatusOr<Census> census = CountNow();
    for (size_t before = 0; census.ok() && census->descriptors != before;) {
      before = census->descriptors;
      Pause(kQuietMs);
      census = CountNow();
      if (MonotonicNowNs() > until_ns) break;
    }
    return census;
  }

  // What outlived its service is a child of this process.
  void ReapOrphans() const {
    siginfo_t ended = {};
    while (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0 &&
           ended.si_pid != daemon_.pid()) {
      waitpid(ended.si_pid, nullptr, 0);
      ended = {};
    }
  }

 private:
  absl::StatusOr<Census> CountNow() {
    const absl::StatusOr<StatusFields> status = AwaitServing();
    if (!status.ok()) return status.status();
    const auto worker = static_cast<pid_t>(status->shim_pid);
    const pid_t keeper = ParentOf(worker), store = daemon_.StorePid();
    Census census;
    for (const auto& [pid, use] : {std::pair(daemon_.pid(), &census.supervisor),
                                   {worker, &census.worker},
                                   {keeper, &census.keeper},
                                   {store, &census.store}}) {
      const absl::StatusOr<MemoryUse> memory = MemoryOf(pid);
      if (!memory.ok()) return memory.status();
      *use = *memory;
      const DescriptorUse descriptors = DescriptorsOf(pid);
      census.descriptors += descriptors.all;
      census.memfds += descriptors.memfds;
    }
    ReapOrphans();
    std::set<pid_t> parents = {daemon_.pid(), worker, keeper, store};
    for (const DriverStatusFields& driver : status->drivers) {
      parents.insert(static_cast<pid_t>(driver.pid));
    }
    census.zombies = ZombiesOf(parents);
    census.cgroups = HostCgroupsOf(services_);
    census.mounts = Mounts();
    return census;
  }

  absl::StatusOr<StatusFields> AwaitServing() const {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    for (;;) {
      absl::StatusOr<StatusFields> status = daemon_.Status();
      if (!status.ok()) return status;
      const bool all = std::all_of(
          status->drivers.begin(), status->drivers.end(), [](const DriverStatusFields& driver) {
            return driver.state == "serving" && driver.content_loading == 0;
          });
      if (all && status->shim_pid != 0 && daemon_.StorePid() > 0) return status;
      if (MonotonicNowNs() > until_ns) {
        return absl::DeadlineExceededError("not all serve again in time");
      }
      Pause(kAgainMs);
    }
  }
  // Of one driver after the other.
  absl::StatusOr<pid_t> Host() {
    const absl::StatusOr<StatusFields> status = AwaitServing();
    if (!status.ok()) return status.status();
    return static_cast<pid_t>(status->drivers[next_host_++ % status->drivers.size()].pid);
  }
  absl::StatusOr<pid_t> Worker() {
    const absl::StatusOr<StatusFields> status = AwaitServing();
    if (!status.ok()) return status.status();
    return static_cast<pid_t>(status->shim_pid);
  }
  static absl::Status Kill(const absl::StatusOr<pid_t>& pid) {
    if (pid.ok() && *pid > 1 && kill(*pid, SIGKILL) == 0) return absl::OkStatus();
    return pid.ok() ? absl::ErrnoToStatus(errno, absl::StrCat("kill ", *pid)) : pid.status();
  }
  static absl::Status StopForAWhile(const absl::StatusOr<pid_t>& pid) {
    if (!pid.ok()) return pid.status();
    if (*pid <= 1 || !StopProcess(*pid, MonotonicAfterNs(kSoonNs))) {
      return absl::UnavailableError(absl::StrCat("process ", *pid, " does not stop"));
    }
    Pause(kStoppedMs);
    kill(*pid, SIGCONT);
    return absl::OkStatus();
  }

  absl::Status KillHost() { return Kill(Host()); }
  absl::Status StopHost() { return StopForAWhile(Host()); }
  absl::Status StopService() { return StopForAWhile(daemon_.pid()); }
  absl::Status KillWorker() { return Kill(Worker()); }
  // Its keeper replaces it.
  absl::Status StopWorker() {
    const absl::StatusOr<pid_t> worker = Worker();
    if (!worker.ok()) return worker.status();
    kill(*worker, SIGSTOP);
    return AwaitAnother(*worker, [this] { return Worker().value_or(-1); });
  }
  absl::Status KillKeeper() {
    const absl::StatusOr<pid_t> worker = Worker();
    if (!worker.ok()) return worker.status();
    if (absl::Status killed = Kill(ParentOf(*worker)); !killed.ok()) return killed;
    return AwaitAnother(*worker, [this] { return Worker().value_or(-1); });
  }
  absl::Status StopKeeper() {
    const absl::StatusOr<pid_t> worker = Worker();
    return worker.ok() ? StopForAWhile(ParentOf(*worker)) : worker.status();
  }
  absl::Status KillService() {
    if (absl::Status serving = AwaitServing().status(); !serving.ok()) return serving;
    daemon_.Kill();
    return Start();
  }
  // A service that dies before the next store has everything is the end of all.
  absl::Status KillStore() {
    daemon_.ForgetLog();
    if (absl::Status killed = Kill(daemon_.StorePid()); !killed.ok()) return killed;
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    while (daemon_.Log().find("was started again") == std::string::npos) {
      if (MonotonicNowNs() > until_ns) return absl::DeadlineExceededError("there is no other");
      Pause(kAgainMs);
    }
    return absl::OkStatus();
  }
  absl::Status StopStore() { return StopForAWhile(daemon_.StorePid()); }
  absl::Status Reload() {
    const absl::Status serving = AwaitServing().status();
    return serving.ok() ? daemon_.Ask(MakeReload()) : serving;
  }
  absl::Status ChangeContent() {
    if (absl::Status serving = AwaitServing().status(); !serving.ok()) return serving;
    ++contents_;
    std::ofstream(rules_ + "/soak.yar") << "rule soak_" << contents_ << " { strings: $a = \"soaked "
                                        << contents_ << " times, as no file is\" condition: $a }\n";
    return daemon_.Ask(MakeReload());
  }

  static absl::Status AwaitAnother(pid_t before, const std::function<pid_t()>& now) {
    const uint64_t until_ns = MonotonicAfterNs(kSoonNs);
    for (pid_t pid; (pid = now()) <= 0 || pid == before;) {
      if (MonotonicNowNs() > until_ns) return absl::DeadlineExceededError("there is no other");
      Pause(kAgainMs);
    }
    return absl::OkStatus();
  }

  const Program& program_;
  DaemonProcess& daemon_;
  const std::string rules_;
  std::set<pid_t> services_;
  std::mt19937_64 random_{std::random_device{}()};
  size_t next_host_ = 0;
  uint64_t contents_ = 0;
  std::vector<Act> acts_ = {{"host_killed", false, &Soak::KillHost},
                            {"host_stopped", false, &Soak::StopHost},
                            {"supervisor_killed", true, &Soak::KillService},
                            {"supervisor_stopped", false, &Soak::StopService},
                            {"worker_killed", true, &Soak::KillWorker},
                            {"worker_stopped", true, &Soak::StopWorker},
                            {"keeper_killed", true, &Soak::KillKeeper},
                            {"keeper_stopped", false, &Soak::StopKeeper},
                            {"store_killed", false, &Soak::KillStore},
                            {"store_stopped", false, &Soak::StopStore},
                            {"reloads", false, &Soak::Reload},
                            {"contents", false, &Soak::ChangeContent}};
};

// A folder of this process' mount namespace only, so that what stands in it is this service's.
absl::Status MakeOwn(const std::string& folder, mode_t mode) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (mount("bulkhead-soak", folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, nullptr) == 0 &&
      chmod(folder.c_str(), mode) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, absl::StrCat("a tmpfs on ", folder));
}

// Without what drivers have said.
std::string OwnLines(const std::string& log) {
  std::string text;
  for (const absl::string_view line : absl::StrSplit(log, '\n')) {
    if (!absl::StrContains(line, " says (")) absl::StrAppend(&text, line, "\n");
  }
  return text;
}

double Growth(const MemoryUse& before, const MemoryUse& after) {
  return after.anonymous_kib - before.anonymous_kib;
}

double Excess(size_t before, size_t after) {
  return static_cast<double>(after) - static_cast<double>(before);
}

int StormSoak(const Program& program, const StormOptions& options) {
  const uint64_t seconds = options.seconds != 0 ? options.seconds
                           : options.short_form ? kShortSeconds
                                                : kFullSeconds;
  const uint64_t every_ms = options.every_ms != 0 ? options.every_ms : 1000;
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create();
  if (!folder.ok()) return Complain(folder.status());
  for (const auto& [own, mode] : {std::pair(RunFolder(), 0700), {kStateFolder, 0711}}) {
    if (absl::Status made = MakeOwn(own, static_cast<mode_t>(mode)); !made.ok()) {
      return Complain(made);
    }
  }
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const absl::StatusOr<StormFiles> files =
      StormFiles::Create((*folder)->path(), kDeadlineNs, kDenied);
  if (!files.ok()) return Complain(files.status());
  const absl::StatusOr<Manifest> scanner = FindDriver("scanner", DriverSearchFolders());
  if (!scanner.ok()) return Complain(scanner.status());
  absl::StatusOr<TemporaryFolder> own = TemporaryFolder::Create();
  if (!own.ok()) return Complain(own.status());
  const std::string rules = own->path() + "/rules";
  std::error_code error;
  std::filesystem::copy(scanner->folder + "/rules", rules, std::filesystem::copy_options::recursive,
                        error);
  if (error) return Complain(absl::ErrnoToStatus(error.value(), rules));
  absl::StatusOr<std::unique_ptr<DaemonProcess>> daemon = DaemonProcess::Create(
      program,
      absl::StrCat("[service]\nattachment = '", options.attach,
                   "'\n[[driver]]\nname = 'null'\noptions = 'deny-odd'\n"
                   "[[driver]]\nname = 'scanner'\ncontent = '",
                   rules, "'\n[[guard]]\nfolder = '", (*folder)->path(), "'\ndeadline = '10s'\n"));
  if (!daemon.ok()) return Complain(daemon.status());
  Soak soak(program, **daemon, rules);
  if (absl::Status started = soak.Start(); !started.ok()) return Complain(started);

  StormFiles::Tally tally;
  Killer nobody([] { return pid_t{-1}; }, 0);
  const std::atomic<uint64_t> unguarded{0};
  std::atomic<bool> done{false}, pausing{false};
  std::atomic<unsigned> resting{0};
  std::atomic<uint64_t> next{0};
  std::vector<std::thread> openers;
  for (unsigned i = 0; i < options.threads; ++i) {
    openers.emplace_back([&] {
      while (!done.load(std::memory_order_relaxed)) {
        if (pausing.load()) {
          resting.fetch_add(1);
          while (pausing.load()) Pause(kAgainMs);
          resting.fetch_sub(1);
        }
        files->Open(next.fetch_add(1, std::memory_order_relaxed), unguarded, nobody, tally);
        Pause(1);  // a load that leaves CPU to what is tested
      }
    });
  }
  // Each open that waits is a descriptor of the shim's.
  const auto take_census = [&] {
    pausing.store(true);
    while (resting.load() < options.threads) Pause(kAgainMs);
    absl::StatusOr<Census> census = soak.Count();
    pausing.store(false);
    return census;
  };
  const uint64_t half_ns = seconds * kNanosecondsPerSecond / 2;
  const uint64_t began_ns = MonotonicNowNs();
  Census before, after;
  const absl::Status trouble = [&] {
    if (absl::Status ran = soak.Run(began_ns + half_ns, every_ms, true); !ran.ok()) return ran;
    absl::Status warm =
        options.short_form ? soak.Run(0, every_ms, false) : soak.FillHistory(every_ms);
    if (!warm.ok()) return warm;
    absl::StatusOr<Census> census = take_census();
    if (!census.ok()) return census.status();
    before = *std::move(census);
    if (absl::Status ran = soak.Run(began_ns + 2 * half_ns, every_ms, false); !ran.ok()) return ran;
    census = take_census();
    if (!census.ok()) return census.status();
    after = *std::move(census);
    return absl::OkStatus();
  }();
  done.store(true);
  for (std::thread& opener : openers) opener.join();
  if (!trouble.ok()) {
    std::cerr << OwnLines((*daemon)->Log());
    return Complain(trouble);
  }
  const absl::StatusOr<StatusFields> status = (*daemon)->Status();
  if (!status.ok()) return Complain(status.status());
  if (absl::Status stopped = (*daemon)->Stop(); !stopped.ok()) return Complain(stopped);
  const uint64_t until_ns = MonotonicAfterNs(kSoonNs / 6);
  int left = 0;  // processes that outlived it, of which no other is a child of this process
  while (waitpid(-1, nullptr, WNOHANG) >= 0) {
    if (MonotonicNowNs() < until_ns) {
      Pause(kAgainMs);
      continue;
    }
    left = 1;
    break;
  }

  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  const auto none = Report::Relation::kAtMost;
  uint64_t by_policy = 0;
  for (const DriverStatusFields& driver : status->drivers) {
    for (const uint64_t count : driver.statistics.by_policy) by_policy += count;
  }
  Report report("storm soak");
  report.AddFigure("opens", number(tally.calls.load()), "", 1, Report::Relation::kAtLeast);
  report.AddFigure("wrong", number(tally.wrong.load()), "", 0, none);
  report.AddFigure("errors", number(tally.errors.load()), "", 0, none);
  report.AddFigure("past_deadline", number(tally.late.load()), "", 0, none);
  report.AddFigure("by_policy", number(by_policy), "", 0, none);
  for (const Soak::Act& act : soak.acts()) {
    report.AddFigure(act.name, number(act.times), "", 1, Report::Relation::kAtLeast);
  }
  report.AddFigure("supervisor_growth", Growth(before.supervisor, after.supervisor), "KiB",
                   kGrowthKibMax, none);
  report.AddFigure("worker_growth", Growth(before.worker, after.worker), "KiB", kGrowthKibMax,
                   none);
  report.AddFigure("keeper_growth", Growth(before.keeper, after.keeper), "KiB", kGrowthKibMax,
                   none);
  report.AddInfo("supervisor_anonymous", after.supervisor.anonymous_kib, "KiB");
  report.AddInfo("supervisor_resident", after.supervisor.resident_kib, "KiB");
  report.AddInfo("worker_anonymous", after.worker.anonymous_kib, "KiB");
  report.AddInfo("worker_resident", after.worker.resident_kib, "KiB");
  report.AddInfo("store_resident", after.store.resident_kib, "KiB");
  report.AddInfo("descriptors", number(after.descriptors), "");
  report.AddFigure("descriptors_more", Excess(before.descriptors, after.descriptors), "", 0, none);
  report.AddFigure("memfds_more", Excess(before.memfds, after.memfds), "", 0, none);
  report.AddFigure("cgroups_more", Excess(before.cgroups, after.cgroups), "", 0, none);
  report.AddFigure("mounts_more", Excess(before.mounts, after.mounts), "", 0, none);
  report.AddFigure("zombies", number(after.zombies), "", 0, none);
  report.AddFigure("left_processes", left, "", 0, none);
  report.AddFigure("left_cgroups", number(HostCgroupsOf(soak.services())), "", 0, none);
  report.AddFigure("left_files", number(EntriesIn(RunFolder()) + EntriesIn(kStateFolder)), "", 0,
                   none);
  report.AddInfo("longest_open", number(tally.longest_ns.load()) / 1e6, "ms");
  report.AddInfo("time", number(MonotonicNowNs() - began_ns) / 1e9, "s");
  return Conclude(report, options.json);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-soak",
       .about = "opens of real files while each second a host, the shim, bulkheadd or its store is "
                "killed or stopped, content is changed or the configuration read again (root); for "
                "half an hour, with --short for a minute. Growth is of anonymous memory",
       .run = &bulkhead::StormSoak,
       .attaches = true,
       .lasts = true},
      argc, argv);
}
