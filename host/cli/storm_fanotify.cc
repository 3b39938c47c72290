// SPDX-License-Identifier: Apache-2.0
//
// The storms on real files: four threads open them, the driver denies those with an odd inode
// number, and the host, or the shim's worker, is killed meanwhile.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "host/cli/guarded_folder.h"
#include "host/cli/storm.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;
constexpr uint64_t kLateSlackNs = 100 * kNanosecondsPerMillisecond;
constexpr size_t kFiles = 64;

struct StormFile {
  std::string path;
  bool denied = false;
};

absl::StatusOr<std::vector<StormFile>> MakeFiles(const std::string& folder) {
  std::vector<StormFile> files;
  for (size_t i = 0; i < kFiles; ++i) {
    StormFile file = {absl::StrCat(folder, "/file-", i)};
    const UniqueFd made(open(file.path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644));
    struct stat status = {};
    if (!made.valid() || fstat(made.get(), &status) != 0) {
      return absl::ErrnoToStatus(errno, file.path);
    }
    file.denied = (status.st_ino & 1) != 0;
    files.push_back(std::move(file));
  }
  return files;
}

// What the openers saw.
struct Tally {
  std::atomic<uint64_t> opens{0};
  std::atomic<uint64_t> wrong{0};   // allowed what should be denied, or the other way round
  std::atomic<uint64_t> errors{0};  // any other errno
  std::atomic<uint64_t> late{0};
  std::atomic<uint64_t> longest_ns{0};
};

void OpenOne(const StormFile& file, Tally& tally, Killer& killer) {
  const uint64_t started_ns = MonotonicNowNs();
  const UniqueFd opened(open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
  const int error = opened.valid() ? 0 : errno;
  const uint64_t ended_ns = MonotonicNowNs();
  killer.Completed(started_ns, ended_ns);
  tally.opens.fetch_add(1, std::memory_order_relaxed);
  if (error != 0 && error != EPERM) tally.errors.fetch_add(1);
  if ((error == EPERM) != file.denied) tally.wrong.fetch_add(1);
  const uint64_t took_ns = ended_ns - started_ns;
  if (took_ns > kDeadlineNs + kLateSlackNs) tally.late.fetch_add(1);
  uint64_t longest = tally.longest_ns.load(std::memory_order_relaxed);
  while (took_ns > longest && !tally.longest_ns.compare_exchange_weak(longest, took_ns)) {
  }
}

struct Plan {
  std::string name;
  uint64_t opens;      // of all threads
  uint64_t kills_min;  // the storm goes on until so many are done
  uint64_t kills_max;
  uint64_t every_ms;
  bool kill_shim;
};

int Storm(const Program& program, const StormOptions& options, const Plan& plan) {
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create();
  if (!folder.ok()) return Complain(folder.status());
  absl::StatusOr<std::vector<StormFile>> files = MakeFiles((*folder)->path());
  if (!files.ok()) return Complain(files.status());
  ServiceOptions wanted;
  wanted.drivers = {"null"};
  wanted.driver_options = "deny-odd";
  wanted.cache_entries = 0;  // each open asks the host
  wanted.endless_budget = true;
  wanted.deadline_ns = kDeadlineNs;
  if (absl::Status status = (*folder)->Guard(program, wanted, /*quiet=*/true); !status.ok())
    return Complain(status);

  Killer killer([&] { return plan.kill_shim ? (*folder)->ShimPid() : (*folder)->HostPid(); },
                plan.every_ms * kNanosecondsPerMillisecond);
  Tally tally;
  std::atomic<bool> killed_enough{plan.kills_min == 0}, done{false};
  std::atomic<uint64_t> next{0};
  const uint64_t started_ns = program.now_ns();
  std::vector<std::thread> openers;
  for (unsigned i = 0; i < options.threads; ++i) {
    openers.emplace_back([&] {
      while (!program.interrupted->load(std::memory_order_relaxed)) {
        const uint64_t number = next.fetch_add(1, std::memory_order_relaxed);
        if (number >= plan.opens && killed_enough.load(std::memory_order_relaxed)) break;
        OpenOne((*files)[number % files->size()], tally, killer);
      }
    });
  }
  std::thread reaper([&] {
    killer.Run(plan.kills_max, done);
    killed_enough.store(true);
  });
  // Without a number of kills to reach, the kills last as long as the opens.
  for (std::thread& opener : openers) opener.join();
  done.store(true);
  reaper.join();
  const double seconds = static_cast<double>(program.now_ns() - started_ns) / 1e9;
  const absl::StatusOr<StatusFields> status = (*folder)->Status();
  if (!status.ok()) return Complain(status.status());
  const absl::StatusOr<nlohmann::ordered_json> counts = (*folder)->Stop();
  if (!counts.ok()) return Complain(counts.status());
  const auto count = [&](const char* name) { return counts->value(name, -1.0); };

  Report report(absl::StrCat("storm ", plan.name));
  report.AddFigure("opens", static_cast<double>(tally.opens.load()), "",
                   static_cast<double>(plan.opens), Report::Relation::kAtLeast);
  report.AddFigure("kills", static_cast<double>(killer.kills()), "",
                   static_cast<double>(std::max<uint64_t>(plan.kills_min, 1)),
                   Report::Relation::kAtLeast);
  report.AddFigure("wrong", static_cast<double>(tally.wrong.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("errors", static_cast<double>(tally.errors.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("past_deadline", static_cast<double>(tally.late.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("by_policy", count("replayed") + count("full"), "", 0,
                   Report::Relation::kAtMost);
  if (plan.kill_shim) {
    const std::vector<double> recoveries = killer.recoveries_ms();
    report.AddFigure("takeovers", count("shim_incarnations") - 1, "",
                     static_cast<double>(plan.kills_min), Report::Relation::kAtLeast);
    report.AddInfo("adopted", count("adopted"), "");
    report.AddInfo("longest_takeover",
                   recoveries.empty() ? 0 : *std::max_element(recoveries.begin(), recoveries.end()),
                   "ms");
  } else {
    AddRecoveryFigures(report, killer);
    report.AddInfo("reissued", static_cast<double>(status->drivers[0].statistics.reissued), "");
  }
  report.AddInfo("longest_open", static_cast<double>(tally.longest_ns.load()) / 1e6, "ms");
  report.AddInfo("time", seconds, "s");
  return Conclude(report, options.json);
}

uint64_t Or(uint64_t given, uint64_t otherwise) { return given != 0 ? given : otherwise; }

}  // namespace

int StormFanotify(const Program& program, const StormOptions& options) {
  return Storm(program, options,
               {.name = "fanotify",
                .opens = Or(options.calls, options.short_form ? 40'000 : 400'000),
                .kills_min = options.kills,
                .kills_max = Or(options.kills, UINT64_MAX),
                .every_ms = Or(options.every_ms, 50),
                .kill_shim = false});
}

int StormShim(const Program& program, const StormOptions& options) {
  const uint64_t kills = Or(options.kills, options.short_form ? 20 : 100);
  return Storm(program, options,
               {.name = "shim",
                .opens = Or(options.calls, options.short_form ? 20'000 : 400'000),
                .kills_min = kills,
                .kills_max = kills,
                .every_ms = Or(options.every_ms, 50),
                .kill_shim = true});
}

}  // namespace bulkhead
