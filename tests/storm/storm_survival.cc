// SPDX-License-Identifier: Apache-2.0
//
// storm-survival: four threads open files while bulkheadd is killed again and again. Its host and
// the shim answer all the time; the next bulkheadd goes on with them.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "host/report/percentiles.h"
#include "host/service/daemon.h"
#include "host/service/temporary_folder.h"
#include "host/supervisor/driver_event.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "ipc/unique_fd.h"
#include "tests/storm/storm.h"
#include "tests/storm/storm_files.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;
constexpr uint64_t kReadyWithinNs = 60 * kNanosecondsPerSecond;

// A bulkheadd with a configuration file, and the manager's end of its sd_notify(3).
class Daemon {
 public:
  static absl::StatusOr<std::unique_ptr<Daemon>> Create(const Program& program,
                                                        const std::string& folder,
                                                        const std::string& attach) {
    absl::StatusOr<TemporaryFolder> own = TemporaryFolder::Create();
    if (!own.ok()) return own.status();
    std::unique_ptr<Daemon> daemon(new Daemon(program, *std::move(own)));
    std::ofstream(daemon->config_) << "[service]\nattachment = '" << attach
                                   << "'\n[[driver]]\nname = 'null'\noptions = 'deny-odd'\n"
                                   << "[[guard]]\nfolder = '" << folder << "'\n";
    std::error_code error;
    std::filesystem::permissions(daemon->config_, std::filesystem::perms(0600), error);
    daemon->notify_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path = daemon->folder_.path() + "/notify";
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (bind(daemon->notify_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
        0) {
      return absl::ErrnoToStatus(errno, path);
    }
    setenv("NOTIFY_SOCKET", path.c_str(), 1);
    return daemon;
  }
  ~Daemon() {
    if (pid_ > 0) Kill();
    ReleaseLeft(program_, config_).IgnoreError();
  }

  // Returns when it guards. How long that took, from its fork.
  absl::StatusOr<double> Start() {
    const std::string program = program_.folder + "/bulkheadd";
    const uint64_t began_ns = MonotonicNowNs();
    began_us_ = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count());
    pid_ = fork();
    if (pid_ < 0) return absl::ErrnoToStatus(errno, "fork");
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      const int log = open((folder_.path() + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      dup2(log, STDERR_FILENO);
      execl(program.c_str(), program.c_str(), "--config", config_.c_str(), nullptr);
      _exit(127);
    }
    const uint64_t until_ns = MonotonicAfterNs(kReadyWithinNs);
    std::vector<char> text(8192);
    while (PollUntil(notify_.get(), POLLIN, until_ns)) {
      const ssize_t bytes = recv(notify_.get(), text.data(), text.size(), MSG_DONTWAIT);
      if (bytes > 0 && absl::StrContains(absl::string_view(text.data(), static_cast<size_t>(bytes)),
                                         "READY=1")) {
        return static_cast<double>(MonotonicNowNs() - began_ns) / 1e6;
      }
    }
    return absl::DeadlineExceededError("bulkheadd is not ready in time");
  }
  // When it went on with the host, after its fork; of the clock of the events.
  absl::StatusOr<double> AdoptedAfterMs() const {
    absl::StatusOr<ControlMessage> answer = AskInstance(InstanceSocket(pid_), MakeGetEvents(0));
    if (!answer.ok()) return answer.status();
    const auto* happened = answer->as<wire::Events>();
    if (happened == nullptr) return absl::InternalError(answer->name());
    for (const EventFields& event : ReadEvents(*happened).events) {
      if (event.kind != DriverEventKindName(DriverEventKind::kAdopted)) continue;
      return static_cast<double>(event.at_us - began_us_) / 1e3;
    }
    return absl::NotFoundError("it has not gone on with its host");
  }
  void Kill() {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  absl::Status Stop() {
    kill(pid_, SIGTERM);
    int code = 0;
    while (waitpid(pid_, &code, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return code == 0 ? absl::OkStatus() : absl::InternalError("bulkheadd did not end in order");
  }
  absl::StatusOr<StatusFields> Status() const {
    absl::StatusOr<ControlMessage> answer = AskInstance(InstanceSocket(pid_), MakeGetStatus());
    if (!answer.ok()) return answer.status();
    const auto* status = answer->as<wire::Status>();
    if (status == nullptr) return absl::InternalError(answer->name());
    return ReadStatus(*status);
  }

 private:
  Daemon(const Program& program, TemporaryFolder folder)
      : program_(program), folder_(std::move(folder)), config_(folder_.path() + "/bulkhead.toml") {}

  const Program& program_;
  const TemporaryFolder folder_;
  const std::string config_;
  UniqueFd notify_;
  pid_t pid_ = -1;
  uint64_t began_us_ = 0;
};

int StormSurvival(const Program& program, const StormOptions& options) {
  const uint64_t kills = options.kills != 0 ? options.kills : options.short_form ? 50 : 1000;
  const uint64_t every_ms = options.every_ms != 0 ? options.every_ms : 20;
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create();
  if (!folder.ok()) return Complain(folder.status());
  const absl::StatusOr<StormFiles> files = StormFiles::Create((*folder)->path(), kDeadlineNs);
  if (!files.ok()) return Complain(files.status());
  absl::StatusOr<std::unique_ptr<Daemon>> daemon =
      Daemon::Create(program, (*folder)->path(), options.attach);
  if (!daemon.ok()) return Complain(daemon.status());
  if (absl::Status started = (*daemon)->Start().status(); !started.ok()) return Complain(started);
  const absl::StatusOr<StatusFields> before = (*daemon)->Status();
  if (!before.ok()) return Complain(before.status());

  StormFiles::Tally tally;
  Killer nobody([] { return pid_t{-1}; }, 0);
  const std::atomic<uint64_t> unguarded{0};
  std::atomic<bool> done{false};
  std::atomic<uint64_t> next{0};
  std::vector<std::thread> openers;
  for (unsigned i = 0; i < options.threads; ++i) {
    openers.emplace_back([&] {
      while (!done.load(std::memory_order_relaxed)) {
        files->Open(next.fetch_add(1, std::memory_order_relaxed), unguarded, nobody, tally);
      }
    });
  }
  std::vector<double> adopted_ms, all_ready_ms;
  absl::Status trouble;
  const uint64_t started_ns = program.now_ns();
  for (uint64_t i = 0; i < kills && !program.interrupted->load(); ++i) {
    // A pace: what happens meanwhile is the openers'.
    PollUntil(-1, 0, MonotonicAfterNs(every_ms * kNanosecondsPerMillisecond));
    (*daemon)->Kill();
    absl::StatusOr<double> ready_ms = (*daemon)->Start();
    trouble = ready_ms.status();
    if (!trouble.ok()) break;
    all_ready_ms.push_back(*ready_ms);
    absl::StatusOr<double> after_ms = (*daemon)->AdoptedAfterMs();
    trouble = after_ms.status();
    if (!trouble.ok()) break;
    adopted_ms.push_back(*after_ms);
  }
  done.store(true);
  for (std::thread& opener : openers) opener.join();
  if (!trouble.ok()) return Complain(trouble);
  const double seconds = static_cast<double>(program.now_ns() - started_ns) / 1e9;
  const absl::StatusOr<StatusFields> after = (*daemon)->Status();
  if (!after.ok()) return Complain(after.status());
  if (absl::Status stopped = (*daemon)->Stop(); !stopped.ok()) return Complain(stopped);

  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  const DriverStatusFields& driver = after->drivers[0];
  uint64_t by_policy = 0;
  for (const uint64_t count : driver.statistics.by_policy) by_policy += count;
  const Percentiles adoption = ComputePercentiles(adopted_ms);
  Report report("storm survival");
  report.AddFigure("kills", number(adopted_ms.size()), "", number(kills),
                   Report::Relation::kAtLeast);
  report.AddFigure("opens", number(tally.calls.load()), "", number(kills),
                   Report::Relation::kAtLeast);
  report.AddFigure("wrong", number(tally.wrong.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("errors", number(tally.errors.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("past_deadline", number(tally.late.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("by_policy", number(by_policy), "", 0, Report::Relation::kAtMost);
  report.AddFigure("hosts_replaced", number(driver.restarts), "", 0, Report::Relation::kAtMost);
  report.AddFigure("same_host", driver.pid == before->drivers[0].pid ? 1 : 0, "", 1,
                   Report::Relation::kAtLeast);
  report.AddInfo("adoption_p50", adoption.p50, "ms");
  report.AddFigure("adoption_p99", adoption.p99, "ms", 100, Report::Relation::kAtMost);
  report.AddInfo("adoption_max", adoption.max, "ms");
  report.AddInfo("ready_p50", ComputePercentiles(all_ready_ms).p50, "ms");
  report.AddInfo("ready_p99", ComputePercentiles(all_ready_ms).p99, "ms");
  report.AddInfo("longest_open", number(tally.longest_ns.load()) / 1e6, "ms");
  report.AddInfo("time", seconds, "s");
  return Conclude(report, options.json);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-survival",
       .about =
           "opens of real files while bulkheadd is killed and started again 1,000 times (root); "
           "adoption: from its start until it supervises the host; ready: until its guards are "
           "checked, too",
       .run = &bulkhead::StormSurvival,
       .attaches = true},
      argc, argv);
}
