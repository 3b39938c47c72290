// SPDX-License-Identifier: Apache-2.0
//
// bench-kernel: what open(2) and close(2) of one file cost under the kernel module, beside
// fanotify.
//
//   bare      no host is asked, no file system is marked
//   fanotify  a listener that allows at once (bench/fanotify_responder.h)
//   asked     `bulkhead run` with the module and the driver null, which is asked each time;
//             spinning or asleep says in which state the call finds the host's worker
//   cached    the same, and the driver's verdicts are remembered
//
// It is always the same file, so only one of them may be there at a time: each is started and ended
// in every round, in an order that turns. Two paces:
//   together  one open after the other: the driver's host still spins when the next call comes
//   apart     the caller waits long enough before each open for the host's worker to sleep, as
//             fanotify's listener does at both paces
// An overhead is what an open costs more than a bare one of the same pace in the same round; ratios
// are those of overheads of one pace and one round; their median counts. Whether the host spun and
// slept is read from its threads' context switches, which host was asked from the counters of all.
//
// Controls, measured in the same rounds, say what this machine can give:
//   marked    the file system has a mark, and the file a mark to ignore that: what the kernel's
//             notification costs before any host could be asked
//   wake      a thread that sleeps on a futex is woken and answers through memory: the least that
//             it costs to ask a listener that is asleep
//   scaling   four callers beside one, for bare opens, under fanotify, and for a computation
//             without any kernel
//   CPUs busy with one caller: a host that spins and one caller leave none of two CPUs idle, and
//             more callers can only take from each other. So callers are also set before a host
//             that sleeps at once, whose CPU is free between calls: that is what the limit is for.
#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench_main.h"
#include "bench/bounded_thread.h"
#include "bench/bounded_wait.h"
#include "bench/fanotify_responder.h"
#include "bench/forked_process.h"
#include "bench/watchdog.h"
#include "host/attachment/place.h"
#include "host/report/percentiles.h"
#include "ipc/abi/atomics.h"
#include "ipc/control/operator_protocol.h"
#include "ipc/futex.h"
#include "ipc/monotonic.h"
#include "ipc/unique_fd.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

constexpr int kWarmUp = 100;       // opens that are not counted, before each series
constexpr uint32_t kSpinUs = 200;  // of the host: more than an open takes, also where it is slow
constexpr uint64_t kApartNs = 500'000;
constexpr int kCallers = 4;
constexpr uint64_t kScalingNs = 100'000'000;

// What a series measures; those apart have their counterparts at the other pace.
enum Series : size_t {
  kBare,
  kFanotify,
  kSpinning,
  kCached,
  kMarked,
  kBareApart,
  kFanotifyApart,
  kAsleep,
  kWakeApart,
  kSeries
};
constexpr std::array<const char*, kSeries> kNames = {"bare",           "fanotify", "spinning",
                                                     "cached",         "marked",   "bare_apart",
                                                     "fanotify_apart", "asleep",   "wake_apart"};

enum Work : size_t {
  kComputing,
  kBareOpens,
  kFanotifyOpens,
  kSpinningOpens,
  kSleepingOpens,
  kCachedOpens,
  kWorks
};
constexpr std::array<const char*, kWorks> kWorkNames = {"computing", "bare",     "fanotify",
                                                        "spinning",  "sleeping", "cached"};

struct Rate {
  double per_s = 0;
  double cpus = 0;  // busy meanwhile, all of the machine's
};

struct Round {
  std::array<double, kSeries> p50_ns = {};
  std::array<Rate, kWorks> one = {}, four = {};
};

// What a child process of ours did, in a page that it shares with us.
struct Caller {
  alignas(BH_CACHE_LINE) uint64_t units;
  uint64_t wrong;
};

// Of all threads of a process.
uint64_t VoluntarySwitches(pid_t process) {
  uint64_t sum = 0;
  std::error_code error;
  for (const auto& task :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", process, "/task"), error)) {
    std::ifstream status(task.path() / "status");
    uint64_t count = 0;
    for (std::string word; status >> word;) {
      if (word == "voluntary_ctxt_switches:" && status >> count) sum += count;
    }
  }
  return sum;
}

// Of all CPUs together, since the machine started.
struct Ticks {
  double all = 0;
  double idle = 0;
};
Ticks ReadTicks() {
  std::ifstream file("/proc/stat");
  std::string cpu;
  file >> cpu;
  Ticks ticks;
  // user nice system idle iowait irq softirq steal
  for (int i = 0; i < 8; ++i) {
    double count = 0;
    file >> count;
    ticks.all += count;
    if (i == 3 || i == 4) ticks.idle += count;
  }
  return ticks;
}

void WaitApart() {
  const uint64_t until_ns = MonotonicAfterNs(kApartNs);
  while (MonotonicNowNs() < until_ns) bh_cpu_relax();
}

class Bench {
 public:
  Bench(const BenchRun& run, GuardedFolder& folder)
      : run_(run),
        opens_in_a_series_(run.short_form ? 200 : 1000),
        folder_(folder),
        file_(folder.path() + "/file-0") {}

  absl::Status MakeFiles() {
    for (int i = 0; i < kCallers; ++i) {
      std::ofstream file(FileOf(i));
      if (!(file << "clean\n").flush()) return absl::InternalError("can't write " + FileOf(i));
    }
    void* page = mmap(nullptr, sizeof(Caller) * kCallers, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return absl::ErrnoToStatus(errno, "a shared page");
    callers_ = static_cast<Caller*>(page);
    return absl::OkStatus();
  }

  absl::Status Measure() {
    constexpr std::array kCases = {&Bench::Bare,     &Bench::Marked,   &Bench::Fanotify,
                                   &Bench::Spinning, &Bench::Sleeping, &Bench::Cached};
    for (int i = 0; i < run_.count; ++i) {
      rounds_.emplace_back();
      for (size_t k = 0; k < kCases.size(); ++k) {
        if (run_.interrupted()) return Interrupted();
        const auto measure = kCases[(static_cast<size_t>(i) + k) % kCases.size()];
        if (absl::Status status = (this->*measure)(); !status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  void AddTo(Report& report) const;

 private:
  std::string FileOf(int caller) const { return absl::StrCat(folder_.path(), "/file-", caller); }

  void Open() {
    ++opens_;
    if (!OpenAndClose(file_.c_str())) ++wrong_;
  }
  static bool OpenAndClose(const char* file) {
    const int descriptor = open(file, O_RDONLY | O_CLOEXEC);
    return descriptor >= 0 && close(descriptor) == 0;
  }

  template <typename Step>
  void Take(Series series, const Step& step) {
    const Watchdog::Section section = watchdog_.Watch("the end of a series of opens");
    const bool apart = series >= kBareApart;
    std::vector<double> samples_ns;
    for (int i = -kWarmUp; i < opens_in_a_series_; ++i) {
      if (apart) WaitApart();
      const uint64_t started_ns = MonotonicNowNs();
      step();
      const uint64_t ended_ns = MonotonicNowNs();
      if (i >= 0) samples_ns.push_back(static_cast<double>(ended_ns - started_ns));
    }
    samples_ns_[series].insert(samples_ns_[series].end(), samples_ns.begin(), samples_ns.end());
    rounds_.back().p50_ns[series] = ComputePercentiles(std::move(samples_ns)).p50;
  }
  void Take(Series series) {
    Take(series, [this] { Open(); });
  }

  absl::Status Bare();
  absl::Status Marked();
  absl::Status Fanotify();
  absl::Status Spinning();
  absl::Status Sleeping();
  absl::Status Cached();
  void Wake();
  absl::Status Serve(bool cached, uint32_t spin_us = kSpinUs);
  absl::Status EndService(bool cached);
  absl::Status Scale(Work work);
  absl::StatusOr<Rate> Run(Work work, int callers);
  void Call(Work work, int caller, uint64_t from_ns);

  Watchdog watchdog_;  // a listener that does not answer keeps an open for ever
  const BenchRun& run_;
  const int opens_in_a_series_;
  GuardedFolder& folder_;
  const std::string file_;
  Caller* callers_ = nullptr;
  std::vector<Round> rounds_;
  std::array<std::vector<double>, kSeries> samples_ns_;
  uint64_t opens_ = 0;  // since the present guard began
  uint64_t wrong_ = 0;
  uint64_t unasked_ = 0;
  uint64_t cached_opens_ = 0, cached_answers_ = 0;
  uint64_t spun_opens_ = 0, spun_switches_ = 0;
  uint64_t slept_opens_ = 0, slept_switches_ = 0;
};

absl::Status Bench::Bare() {
  Take(kBare);
  Take(kBareApart);
  Wake();
  if (absl::Status status = Scale(kComputing); !status.ok()) return status;
  return Scale(kBareOpens);
}

absl::Status Bench::Marked() {
  const absl::StatusOr<UniqueFd> folder = OpenGuardedDirectory(folder_.path());
  if (!folder.ok()) return folder.status();
  absl::StatusOr<FanotifyGroup> group = FanotifyGroup::Create();
  if (!group.ok()) return group.status();
  if (fanotify_mark(group->fd(),
                    FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY,
                    FAN_OPEN_PERM, AT_FDCWD, file_.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, "can't ignore a file");
  }
  absl::Status status =
      group->Mark(folder->get(), MarkKind::kFilesystem, GuardSpec().callbacks, folder_.path());
  if (status.ok()) Take(kMarked);
  return status;
}

absl::Status Bench::Fanotify() {
  const absl::StatusOr<std::unique_ptr<FanotifyResponder>> responder =
      FanotifyResponder::Start(folder_.path());
  if (!responder.ok()) return responder.status();
  opens_ = 0;
  Take(kFanotify);
  Take(kFanotifyApart);
  if (absl::Status status = Scale(kFanotifyOpens); !status.ok()) return status;
  const uint64_t answered = (*responder)->answered();
  if (opens_ > answered) unasked_ += opens_ - answered;
  return absl::OkStatus();
}

absl::Status Bench::Spinning() {
  if (absl::Status status = Serve(false); !status.ok()) return status;
  const pid_t host = folder_.HostPid();
  const uint64_t before = VoluntarySwitches(host);
  Take(kSpinning);
  const uint64_t between = VoluntarySwitches(host);
  const uint64_t opens = opens_;
  Take(kAsleep);
  spun_switches_ += between - before;
  spun_opens_ += opens;
  slept_switches_ += VoluntarySwitches(host) - between;
  slept_opens_ += opens_ - opens;
  if (absl::Status status = Scale(kSpinningOpens); !status.ok()) return status;
  return EndService(false);
}

absl::Status Bench::Sleeping() {
  if (absl::Status status = Serve(false, /*spin_us=*/0); !status.ok()) return status;
  if (absl::Status status = Scale(kSleepingOpens); !status.ok()) return status;
  return EndService(false);
}

absl::Status Bench::Cached() {
  if (absl::Status status = Serve(true); !status.ok()) return status;
  Take(kCached);
  if (absl::Status status = Scale(kCachedOpens); !status.ok()) return status;
  return EndService(true);
}

absl::Status Bench::Serve(bool cached, uint32_t spin_us) {
  ServiceOptions options;
  options.drivers = {"null"};
  options.each.options = cached ? "cache" : "";
  options.each.cache_entries = cached ? 4096 : 0;
  options.each.spin_us = spin_us;
  opens_ = 0;
  return folder_.Guard(*run_.program, options, /*quiet=*/true);
}

absl::Status Bench::EndService(bool cached) {
  const absl::StatusOr<StatusFields> status = folder_.Status();
  if (!status.ok()) return status.status();
  if (status->attachment != "module") {
    return absl::InternalError("the service took another attachment: " + status->attachment);
  }
  const bh_statistics& seen = status->drivers[0].statistics;
  if (cached) {
    cached_opens_ += opens_;
    cached_answers_ += seen.cached;
  }
  if (opens_ > seen.answered + seen.cached) unasked_ += opens_ - seen.answered - seen.cached;
  return folder_.Stop().status();
}

void Bench::Wake() {
  alignas(BH_CACHE_LINE) uint32_t asked = 0;
  alignas(BH_CACHE_LINE) uint32_t answered = 0;
  const uint32_t last = static_cast<uint32_t>(kWarmUp + opens_in_a_series_);
  BoundedThread sleeper;
  sleeper.Start([&] {
    for (uint32_t seen = 0; seen != last;) {
      FutexWait(&asked, seen, FutexScope::kPrivate, kForeverNs);
      seen = bh_load_acquire(&asked);
      bh_store_release(&answered, seen);
    }
  });
  Take(kWakeApart, [&] {
    bh_store_release(&asked, asked + 1);
    FutexWake(&asked, FutexScope::kPrivate, 1);
    SpinUntil("the sleeper's answer", [&] { return bh_load_acquire(&answered) == asked; });
  });
  sleeper.Join("the sleeper's end");
}

// In a child process: nothing but system calls.
void Bench::Call(Work work, int caller, uint64_t from_ns) {
  const std::string file = FileOf(caller);
  const uint64_t until_ns = from_ns + kScalingNs;
  uint64_t number = from_ns, units = 0, wrong = 0;
  for (uint64_t now_ns = 0; (now_ns = MonotonicNowNs()) < until_ns;) {
    if (now_ns >= from_ns) ++units;  // before that, until all is as it will be
    if (work != kComputing) {
      if (!OpenAndClose(file.c_str())) ++wrong;
      continue;
    }
    for (int i = 0; i < 5000; ++i) number = number * 6364136223846793005 + 1442695040888963407;
    asm volatile("" ::"r"(number));
  }
  callers_[caller] = {.units = units, .wrong = wrong};
}

absl::StatusOr<Rate> Bench::Run(Work work, int callers) {
  const uint64_t from_ns = MonotonicAfterNs(50'000'000);  // all are there by then
  std::vector<ForkedProcess> children;
  for (int i = 0; i < callers; ++i) {
    absl::StatusOr<ForkedProcess> child =
        ForkedProcess::Start([this, work, i, from_ns] { Call(work, i, from_ns); });
    if (!child.ok()) return child.status();
    children.push_back(*std::move(child));
  }
  while (MonotonicNowNs() < from_ns) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Ticks before = ReadTicks();
  absl::Status ended;
  for (ForkedProcess& child : children) ended.Update(child.Join("a caller"));
  if (!ended.ok()) return ended;
  const Ticks after = ReadTicks();
  uint64_t units = 0;
  for (int i = 0; i < callers; ++i) {
    units += callers_[i].units;
    wrong_ += callers_[i].wrong;
  }
  if (work != kComputing) opens_ += units;
  return Rate{.per_s = static_cast<double>(units) * 1e9 / static_cast<double>(kScalingNs),
              .cpus = static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN)) *
                      (1 - (after.idle - before.idle) / (after.all - before.all))};
}

absl::Status Bench::Scale(Work work) {
  const absl::StatusOr<Rate> one = Run(work, 1);
  if (!one.ok()) return one.status();
  const absl::StatusOr<Rate> four = Run(work, kCallers);
  if (!four.ok()) return four.status();
  rounds_.back().one[work] = *one;
  rounds_.back().four[work] = *four;
  return absl::OkStatus();
}

void Bench::AddTo(Report& report) const {
  const auto figure = [&](const std::string& name, double value, double limit,
                          Report::Relation relation) {
    if (run_.limited) {
      report.AddFigure(name, value, "", limit, relation);
    } else {
      report.AddInfo(name, value, "");
    }
  };
  const auto share = [](uint64_t part, uint64_t whole) {
    return static_cast<double>(std::min(part, whole)) / static_cast<double>(whole);
  };
  const auto overhead_ratio = [&](Series ours, Series floor, Series bare) {
    std::vector<double> ratios;
    for (const Round& round : rounds_) {
      ratios.push_back((round.p50_ns[ours] - round.p50_ns[bare]) /
                       (round.p50_ns[floor] - round.p50_ns[bare]));
    }
    return ComputePercentiles(std::move(ratios)).p50;
  };
  for (size_t series = 0; series < kSeries; ++series) {
    const Percentiles all = ComputePercentiles(samples_ns_[series]);
    report.AddInfo(absl::StrCat(kNames[series], "_p50"), all.p50 / 1e3, "us");
    report.AddInfo(absl::StrCat(kNames[series], "_p99"), all.p99 / 1e3, "us");
  }
  using enum Report::Relation;
  figure("overhead_spinning/overhead_fanotify", overhead_ratio(kSpinning, kFanotify, kBare),
         1.0 / 20, kAtMost);
  figure("overhead_asleep/overhead_fanotify", overhead_ratio(kAsleep, kFanotifyApart, kBareApart),
         1.0 / 6, kAtMost);
  figure("overhead_cached/overhead_fanotify", overhead_ratio(kCached, kFanotify, kBare), 1.0 / 50,
         kAtMost);
  report.AddInfo("overhead_marked/overhead_fanotify", overhead_ratio(kMarked, kFanotify, kBare),
                 "");
  std::vector<double> wake;
  for (const Round& round : rounds_) {
    wake.push_back(round.p50_ns[kWakeApart] /
                   (round.p50_ns[kFanotifyApart] - round.p50_ns[kBareApart]));
  }
  report.AddInfo("wake/overhead_fanotify", ComputePercentiles(std::move(wake)).p50, "");
  figure("host_spun_share", 1 - share(spun_switches_, spun_opens_), 0.9, kAtLeast);
  figure("host_slept_share", share(slept_switches_, slept_opens_), 0.9, kAtLeast);
  for (size_t work = 0; work < kWorks; ++work) {
    std::vector<double> one, four, ratio, cpus;
    for (const Round& round : rounds_) {
      one.push_back(round.one[work].per_s);
      four.push_back(round.four[work].per_s);
      ratio.push_back(round.four[work].per_s / round.one[work].per_s);
      cpus.push_back(round.one[work].cpus);
    }
    const std::string name = absl::StrCat("four_callers/one_", kWorkNames[work]);
    const double p50 = ComputePercentiles(std::move(ratio)).p50;
    if (work == kSleepingOpens) {  // a host that spins has no CPU to spare: see its CPUs busy
      figure(name, p50, 1.6, kAtLeast);
    } else {
      report.AddInfo(name, p50, "");
    }
    report.AddInfo(absl::StrCat("one_caller_", kWorkNames[work]),
                   ComputePercentiles(std::move(one)).p50, "1/s");
    report.AddInfo(absl::StrCat("one_caller_", kWorkNames[work], "_cpus_busy"),
                   ComputePercentiles(std::move(cpus)).p50, "");
    report.AddInfo(absl::StrCat("four_callers_", kWorkNames[work]),
                   ComputePercentiles(std::move(four)).p50, "1/s");
  }
  report.AddFigure("wrong", static_cast<double>(wrong_), "", 0, kAtMost);
  report.AddFigure("unasked", static_cast<double>(unasked_), "", 0, kAtMost);
  report.AddFigure("cached_share", share(cached_answers_, cached_opens_), "", 0.9, kAtLeast);
  report.AddInfo("opens", static_cast<double>(samples_ns_[kBare].size()), "");
}

class KernelBenchmark final : public Benchmark {
 public:
  std::string name() const override { return "kernel"; }
  std::string about() const override {
    return "What open(2) and close(2) cost under the kernel module, beside fanotify (root)";
  }
  BenchCount count() const override {
    return {.option = "--rounds",
            .about = "Rounds of 1000 opens of each kind, or of 200 in the short form",
            .usual = 20,
            .short_form = 5,
            .max = 10'000};
  }

  absl::Status Probe() override {
    if (access("/dev/bulkhead", R_OK | W_OK) != 0) {
      return absl::UnavailableError(
          "no kernel module that this user may use (insmod bulkhead.ko, as root); ./dev bench "
          "kernel runs this in a guest");
    }
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
      return absl::UnavailableError("a caller and a host that spins need two CPUs");
    }
    return absl::OkStatus();
  }

  absl::Status Measure(const BenchRun& run, Report& report) override {
    const absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create();
    if (!folder.ok()) return folder.status();
    (*folder)->EndServiceWithItsStarter();
    Bench bench(run, **folder);
    absl::Status status = bench.MakeFiles();
    if (status.ok()) status = bench.Measure();
    if (status.ok()) bench.AddTo(report);
    return status;
  }
};

}  // namespace

std::unique_ptr<Benchmark> MakeBenchmark() { return std::make_unique<KernelBenchmark>(); }

}  // namespace bulkhead
