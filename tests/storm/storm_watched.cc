// SPDX-License-Identifier: Apache-2.0
//
// storm-watched: what readers of the page, of metrics and of `bulkhead top` cost the calls that the
// service answers meanwhile. 1,000 opens a second in all rounds; in every other round readers ask,
// each as often as such a reader does: an open page every two seconds, top every second, Prometheus
// every five (15 or more is usual). The two rounds of a pair stand beside
// each other, in either order; the figure is the median of the pairs' ratios.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "host/report/percentiles.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/monotonic.h"
#include "ipc/poll_until.h"
#include "ipc/unique_fd.h"
#include "tests/storm/storm.h"
#include "tests/storm/storm_files.h"
#include "tests/testing/daemon_process.h"
#include "tests/testing/guarded_folder_fixture.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;
constexpr uint64_t kOpensASecond = 1000, kShortOpensASecond = 200;
constexpr uint64_t kPageEveryMs = 2000, kTopEveryMs = 1000, kMetricsEveryMs = 5000;
constexpr size_t kPairs = 40, kShortPairs = 1;
constexpr uint64_t kRoundNs = 4 * kNanosecondsPerSecond;
constexpr double kRatioMax = 1.05;

// Whether that was answered with 200.
bool Get(const std::string& path, const std::string& url) {
  const UniqueFd file(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (connect(file.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return false;
  }
  const std::string request =
      absl::StrCat("GET ", url, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  if (send(file.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return false;
  std::string answer;
  std::array<char, 16384> part;
  for (ssize_t size; (size = recv(file.get(), part.data(), part.size(), 0)) > 0;) {
    answer.append(part.data(), static_cast<size_t>(size));
  }
  return absl::StartsWith(answer, "HTTP/1.1 200");
}

// Runs `act` so often a second until then; returns how often. What is late is made up for at once.
uint64_t AtPace(uint64_t every_ns, uint64_t until_ns, const std::function<void()>& act) {
  uint64_t times = 0;
  for (uint64_t at_ns = MonotonicNowNs(); at_ns < until_ns; at_ns += every_ns, ++times) {
    PollUntil(-1, 0, at_ns);
    act();
  }
  return times;
}

struct Round {
  Percentiles us;
  uint64_t opens = 0;
};

class Watched {
 public:
  // `ask_every_ms`: of each reader; 0: as often as such a reader does.
  Watched(const DaemonProcess& daemon, const StormFiles& files, std::string web,
          uint64_t ask_every_ms)
      : daemon_(daemon), files_(files), web_(std::move(web)), ask_every_ms_(ask_every_ms) {}

  Round Run(bool read, uint64_t opens_a_second) {
    const uint64_t until_ns = MonotonicAfterNs(kRoundNs);
    std::vector<std::thread> readers;
    if (read) {
      const std::string path = InstanceSocket(daemon_.pid());
      const auto top = [path] {
        const auto answered = [&](const ControlBuffer& request) {
          return AskInstance(path, request).ok();
        };
        return answered(MakeGetStatus()) && answered(MakeGetEvents(0));
      };
      const auto get = [this](const char* url) { return [this, url] { return Get(web_, url); }; };
      const auto begin = [&](uint64_t every_ms, const std::function<bool()>& ask) {
        if (ask_every_ms_ != 0) every_ms = ask_every_ms_;
        readers.emplace_back([this, every_ms, ask, until_ns] {
          AtPace(every_ms * kNanosecondsPerMillisecond, until_ns,
                 [&] { (ask() ? answered_ : unanswered_).fetch_add(1); });
        });
      };
      begin(kMetricsEveryMs, get("/metrics"));
      begin(kPageEveryMs, get("/api/status"));
      begin(kPageEveryMs, get("/api/events?after=0"));
      begin(kTopEveryMs, top);
    }
    std::vector<double> us;
    Killer nobody([] { return pid_t{-1}; }, 0);
    Round round;
    round.opens = AtPace(kNanosecondsPerSecond / opens_a_second, until_ns, [&] {
      const uint64_t began_ns = MonotonicNowNs();
      files_.Open(next_++, unguarded_, nobody, tally_);
      us.push_back(static_cast<double>(MonotonicNowNs() - began_ns) / 1e3);
    });
    for (std::thread& reader : readers) reader.join();
    round.us = ComputePercentiles(std::move(us));
    return round;
  }

  const StormFiles::Tally& tally() const { return tally_; }
  uint64_t answered() const { return answered_.load(); }
  uint64_t unanswered() const { return unanswered_.load(); }

 private:
  const DaemonProcess& daemon_;
  const StormFiles& files_;
  const std::string web_;
  const uint64_t ask_every_ms_;
  StormFiles::Tally tally_;
  const std::atomic<uint64_t> unguarded_{0};
  std::atomic<uint64_t> answered_{0}, unanswered_{0};
  uint64_t next_ = 0;
};

// Of sorted values.
double Quantile(const std::vector<double>& sorted, double part) {
  return sorted[static_cast<size_t>(part * static_cast<double>(sorted.size() - 1) + 0.5)];
}

// Of so many values around a median of 1, how far the median strays by chance: distribution-free,
// the values at these ranks enclose it with 95 % confidence.
std::pair<double, double> MedianWithin(const std::vector<double>& sorted) {
  const auto count = static_cast<double>(sorted.size());
  const double ranks = 0.98 * std::sqrt(count);
  const auto at = [&](double rank) {
    return sorted[static_cast<size_t>(std::clamp(rank, 0.0, count - 1))];
  };
  return {at(count / 2 - ranks), at(count / 2 + ranks)};
}

void AddRatios(Report& report, const StormOptions& options, std::vector<double> p50_ratios,
               std::vector<double> p99_ratios, std::vector<double> p99_quiet,
               std::vector<double> p99_read) {
  for (std::vector<double>* values : {&p50_ratios, &p99_ratios, &p99_quiet, &p99_read}) {
    std::sort(values->begin(), values->end());
  }
  const double median = Quantile(p99_ratios, 0.5);
  if (options.unlimited) {
    report.AddInfo("p99_ratio", median, "");
  } else {
    report.AddFigure("p99_ratio", median, "", kRatioMax, Report::Relation::kAtMost);
  }
  const auto [low, high] = MedianWithin(p99_ratios);
  report.AddInfo("p99_ratio_95_low", low, "");
  report.AddInfo("p99_ratio_95_high", high, "");
  report.AddInfo("p99_ratio_q1", Quantile(p99_ratios, 0.25), "");
  report.AddInfo("p99_ratio_q3", Quantile(p99_ratios, 0.75), "");
  report.AddInfo("p50_ratio", Quantile(p50_ratios, 0.5), "");
  report.AddInfo("p99_quiet", Quantile(p99_quiet, 0.5), "us");
  report.AddInfo("p99_read", Quantile(p99_read, 0.5), "us");
  report.AddInfo("pairs", static_cast<double>(p99_ratios.size()), "");
}

int StormWatched(const Program& program, const StormOptions& options) {
  absl::StatusOr<std::unique_ptr<GuardedFolder>> folder = GuardedFolder::Create();
  if (!folder.ok()) return Complain(folder.status());
  const absl::StatusOr<StormFiles> files = StormFiles::Create((*folder)->path(), kDeadlineNs);
  if (!files.ok()) return Complain(files.status());
  absl::StatusOr<TemporaryFolder> own = TemporaryFolder::Create();
  if (!own.ok()) return Complain(own.status());
  const std::string web = own->path() + "/web.sock";
  absl::StatusOr<std::unique_ptr<DaemonProcess>> daemon = DaemonProcess::Create(
      program, absl::StrCat("[service]\nattachment = '", options.attach, "'\nmetrics = '", web,
                            "'\npage = true\n[[driver]]\nname = 'null'\noptions = 'deny-odd'\n",
                            "[[guard]]\nfolder = '", (*folder)->path(), "'\n"));
  if (!daemon.ok()) return Complain(daemon.status());
  if (absl::Status started = (*daemon)->Start().status(); !started.ok()) return Complain(started);

  const uint64_t pace = options.short_form ? kShortOpensASecond : kOpensASecond;
  const size_t pairs = options.short_form ? kShortPairs : kPairs;
  Watched watched(**daemon, *files, web, options.every_ms);
  (void)watched.Run(/*read=*/true, pace);  // what is touched for the first time
  std::vector<double> p50_ratios, p99_ratios, p99_quiet, p99_read;
  uint64_t rounds_behind = 0;
  for (size_t pair = 0; pair < pairs; ++pair) {
    if (program.interrupted->load()) return Complain(absl::CancelledError("interrupted"));
    const bool read_first = pair % 2 == 1;
    const Round first = watched.Run(read_first, pace);
    const Round second = watched.Run(!read_first, pace);
    const Round& quiet = read_first ? second : first;
    const Round& read = read_first ? first : second;
    p50_ratios.push_back(read.us.p50 / quiet.us.p50);
    p99_ratios.push_back(read.us.p99 / quiet.us.p99);
    p99_quiet.push_back(quiet.us.p99);
    p99_read.push_back(read.us.p99);
    const uint64_t wanted = pace * kRoundNs / kNanosecondsPerSecond;
    for (const Round* round : {&quiet, &read}) {
      if (round->opens < wanted * 9 / 10) ++rounds_behind;
    }
  }
  const absl::StatusOr<StatusFields> after = (*daemon)->Status();
  if (!after.ok()) return Complain(after.status());
  if (absl::Status stopped = (*daemon)->Stop(); !stopped.ok()) return Complain(stopped);

  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  const StormFiles::Tally& tally = watched.tally();
  Report report("storm watched");
  report.AddFigure("opens", number(tally.calls.load()), "", 1, Report::Relation::kAtLeast);
  report.AddFigure("wrong", number(tally.wrong.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("errors", number(tally.errors.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("past_deadline", number(tally.late.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("answered", number(watched.answered()), "", 1, Report::Relation::kAtLeast);
  report.AddFigure("unanswered", number(watched.unanswered()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("hosts_replaced", number(after->drivers[0].restarts), "", 0,
                   Report::Relation::kAtMost);
  // Two rounds tell nothing.
  if (!options.short_form) AddRatios(report, options, p50_ratios, p99_ratios, p99_quiet, p99_read);
  report.AddInfo("rounds_behind_pace", number(rounds_behind), "");
  return Conclude(report, options.json);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-watched",
       .about =
           "1,000 opens of real files a second, with and without readers of the page, of metrics "
           "and of top, each as often as such a reader asks (root); p99_ratio: of the two, the "
           "median "
           "of interleaved pairs of rounds. --short counts and does not compare",
       .run = &bulkhead::StormWatched,
       .every = "requests of a reader",
       .attaches = true},
      argc, argv);
}
