// SPDX-License-Identifier: Apache-2.0
//
// What one user's flood does to another's opens: a thousand threads of the one open a file over
// which the driver takes its time, while the other opens one, too, again and again.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "host/report/percentiles.h"
#include "ipc/abi/names.h"
#include "ipc/abi/policy.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"
#include "tests/storm/storm.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

constexpr uid_t kGreedyUser = 65534, kOtherUser = 65533;
constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;
constexpr int kServiceMs = 5;  // what the driver "faulty" takes over files of this name
constexpr char kCommonFile[] = "slow-5-common";
constexpr char kOwnFile[] = "slow-5-own";
constexpr size_t kSamplesMax = 10'000;

// Of this process and its children.
struct Shared {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> begun{0}, opened{0}, refused{0}, failed{0};
  std::atomic<uint64_t> measured{0}, not_opened{0};
  double took_ms[kSamplesMax] = {};
};

// 0 or the errno.
int OpenOnce(int folder, const char* name) {
  const UniqueFd file(openat(folder, name, O_RDONLY | O_CLOEXEC));
  return file.valid() ? 0 : errno;
}

// A child that acts as a user without rights, or the errno. It ends with this thread.
absl::StatusOr<pid_t> StartAs(uid_t user, const std::function<void()>& act) {
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pid != 0) return pid;
  // After the ids, whose change takes it back.
  if (setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0 ||
      prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
    _exit(kExitTrouble);
  }
  act();
  _exit(kExitOk);
}

absl::Status Await(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return absl::ErrnoToStatus(errno, "waitpid");
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == kExitOk) return absl::OkStatus();
  return absl::InternalError("a child that opens files did not end as it should");
}

class Fairness {
 public:
  Fairness(const Program& program, Shared* shared, int folder, uint64_t samples, unsigned flooders)
      : program_(program),
        shared_(*shared),
        folder_(folder),
        samples_(samples),
        flooders_(flooders) {}

  // What the other user's opens take.
  absl::StatusOr<Percentiles> Measure() {
    shared_.measured.store(0);
    const absl::StatusOr<pid_t> child = StartAs(kOtherUser, [this] {
      for (uint64_t i = 0; i < samples_ && !program_.interrupted->load(); ++i) {
        const uint64_t began_ns = MonotonicNowNs();
        if (OpenOnce(folder_, kOwnFile) != 0) shared_.not_opened.fetch_add(1);
        shared_.took_ms[i] = static_cast<double>(MonotonicNowNs() - began_ns) / 1e6;
        shared_.measured.fetch_add(1);
      }
    });
    if (!child.ok()) return child.status();
    if (absl::Status status = Await(*child); !status.ok()) return status;
    return ComputePercentiles({shared_.took_ms, shared_.took_ms + shared_.measured.load()});
  }

  // Returns when each thread has had an answer.
  absl::Status BeginFlood() {
    absl::StatusOr<pid_t> child = StartAs(kGreedyUser, [this] {
      std::vector<std::thread> threads;
      for (unsigned i = 0; i < flooders_; ++i) {
        threads.emplace_back([this] {
          for (bool first = true; !shared_.stop.load(); first = false) {
            const int reason = OpenOnce(folder_, kCommonFile);
            (reason == 0       ? shared_.opened
             : reason == EPERM ? shared_.refused
                               : shared_.failed)
                .fetch_add(1);
            if (first) shared_.begun.fetch_add(1);
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
    });
    if (!child.ok()) return child.status();
    flood_ = *child;
    const uint64_t until_ns = MonotonicAfterNs(4 * kDeadlineNs);
    while (shared_.begun.load() < flooders_ && !program_.interrupted->load()) {
      if (MonotonicNowNs() > until_ns) {
        return absl::DeadlineExceededError("the flood's first opens did not end");
      }
      usleep(1000);
    }
    return absl::OkStatus();
  }

  absl::Status EndFlood() {
    shared_.stop.store(true);
    return Await(flood_);
  }

 private:
  const Program& program_;
  Shared& shared_;
  const int folder_;
  const uint64_t samples_;
  const unsigned flooders_;
  pid_t flood_ = -1;
};

int StormFairness(const Program& program, const StormOptions& options) {
  const uint64_t samples = std::min<uint64_t>(options.calls != 0   ? options.calls
                                              : options.short_form ? 200
                                                                   : 1000,
                                              kSamplesMax);
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Complain(absl::ErrnoToStatus(errno, "mmap"));
  Shared* shared = new (memory) Shared;
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create(kStormService);
  if (!folder.ok()) return Complain(folder.status());
  for (const char* name : {kCommonFile, kOwnFile}) {
    const std::string path = absl::StrCat((*folder)->path(), "/", name);
    std::ofstream(path) << name;
    if (chmod(path.c_str(), 0644) != 0) return Complain(absl::ErrnoToStatus(errno, path));
  }
  ServiceOptions service = StormService(kDeadlineNs);
  service.drivers = {"faulty"};
  service.each.options = "";
  if (absl::Status status = (*folder)->Guard(program, service, /*quiet=*/true, options.attach);
      !status.ok()) {
    return Complain(status);
  }
  // The users need not be able to reach it by its path.
  const UniqueFd directory(open((*folder)->path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (chmod((*folder)->path().c_str(), 0755) != 0 || !directory.valid()) {
    return Complain(absl::ErrnoToStatus(errno, (*folder)->path()));
  }

  Fairness fairness(program, shared, directory.get(), samples, options.threads);
  const absl::StatusOr<Percentiles> calm = fairness.Measure();
  if (!calm.ok()) return Complain(calm.status());
  if (absl::Status status = fairness.BeginFlood(); !status.ok()) return Complain(status);
  const absl::StatusOr<Percentiles> crowded = fairness.Measure();
  if (!crowded.ok()) return Complain(crowded.status());
  const uint64_t answered = shared->opened.load() + shared->refused.load();
  if (absl::Status status = fairness.EndFlood(); !status.ok()) return Complain(status);
  const absl::StatusOr<StatusFields> status = (*folder)->Status();
  if (!status.ok()) return Complain(status.status());
  const absl::StatusOr<std::map<std::string, double>> counts = (*folder)->Stop();
  if (!counts.ok()) return Complain(counts.status());
  const bh_statistics& statistics = status->drivers[0].statistics;
  auto unasked = static_cast<double>(statistics.let_through);
  // And what the attachment answered by itself.
  if (const auto found = counts->find("let_through"); found != counts->end()) {
    unasked += found->second;
  }

  Report report("storm fairness");
  report.AddFigure("samples", static_cast<double>(crowded->count), "", static_cast<double>(samples),
                   Report::Relation::kAtLeast);
  report.AddInfo("calm_p50", calm->p50, "ms");
  report.AddInfo("calm_p99", calm->p99, "ms");
  report.AddInfo("crowded_p50", crowded->p50, "ms");
  if (options.unlimited) {
    report.AddInfo("crowded_p99", crowded->p99, "ms");
  } else {
    report.AddFigure("crowded_p99", crowded->p99, "ms", 2 * calm->p99 + kServiceMs,
                     Report::Relation::kAtMost);
  }
  report.AddInfo("crowded_max", crowded->max, "ms");
  report.AddFigure("not_opened", static_cast<double>(shared->not_opened.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("unasked", unasked, "", 0, Report::Relation::kAtMost);
  report.AddFigure("flood_errors", static_cast<double>(shared->failed.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddInfo("flood_answered", static_cast<double>(answered), "");
  report.AddInfo("flood_refused", static_cast<double>(shared->refused.load()), "");
  for (uint32_t reason = 0; reason < BH_REASON_COUNT; ++reason) {
    if (statistics.by_policy[reason] == 0) continue;
    report.AddInfo(bh_reason_name(reason), static_cast<double>(statistics.by_policy[reason]), "");
  }
  return Conclude(report, options.json);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-fairness",
       .about = "1,000 threads of one user against a slow driver, and another user's opens (root)",
       .run = &bulkhead::StormFairness,
       .attaches = true,
       .threads = 1000},
      argc, argv);
}
