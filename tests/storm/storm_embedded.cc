// SPDX-License-Identifier: Apache-2.0
//
// The storm on the embedded shim: every call has a number, a ledger has a cell for each, and the
// right verdict follows from the number.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "host/cli/service_options.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"
#include "tests/storm/storm.h"

namespace bulkhead {
namespace {

constexpr uint64_t kDeadlineNs = 5 * kNanosecondsPerSecond;
constexpr uint64_t kLateSlackNs = 100 * kNanosecondsPerMillisecond;

// What became of each call: how often it was completed.
class Ledger {
 public:
  explicit Ledger(uint64_t calls) : completed_(calls) {}
  void Complete(uint64_t number) { completed_[number].fetch_add(1, std::memory_order_relaxed); }
  uint64_t Lost() const {
    return Count([](uint8_t times) { return times == 0; });
  }
  uint64_t Twice() const {
    return Count([](uint8_t times) { return times > 1; });
  }

 private:
  template <typename Predicate>
  uint64_t Count(Predicate predicate) const {
    return static_cast<uint64_t>(
        std::count_if(completed_.begin(), completed_.end(), [&](const std::atomic<uint8_t>& cell) {
          return predicate(cell.load(std::memory_order_relaxed));
        }));
  }
  std::vector<std::atomic<uint8_t>> completed_;
};

int StormEmbedded(const Program& program, const StormOptions& options) {
  const uint64_t calls = options.calls != 0   ? options.calls
                         : options.short_form ? 500'000
                                              : 10'000'000;
  const uint64_t kills = options.kills != 0 ? options.kills : options.short_form ? 100 : 2'000;
  const uint64_t every_ms = options.every_ms != 0 ? options.every_ms : 5;

  absl::StatusOr<std::unique_ptr<EmbeddedShim>> made =
      EmbeddedShim::Create({.deadline_ns = kDeadlineNs});
  if (!made.ok()) return Complain(made.status());
  const std::shared_ptr<EmbeddedShim> shim = *std::move(made);
  absl::StatusOr<std::unique_ptr<Service>> service =
      StartService(program, StormService(kDeadlineNs), shim, "embedded");
  if (!service.ok()) return Complain(service.status());

  Ledger ledger(calls);
  std::atomic<uint64_t> next{0}, wrong{0}, by_policy{0}, late{0}, reissued{0};
  std::atomic<bool> killed_enough{false};
  Killer killer([&] { return (*service)->supervisor().HostPid("null"); },
                every_ms * kNanosecondsPerMillisecond);
  // The calls last as long as the kills: a caller that is early continues with numbers beyond the
  // ledger. SUBTLE: `next` only has to give each number once. What is counted is read behind the
  // callers' end, which orders it; a flag that is seen late costs one more call.
  std::atomic<uint64_t> beyond{0};
  const auto call_all = [&] {
    while (!program.interrupted->load(std::memory_order_relaxed)) {
      const uint64_t number = next.fetch_add(1, std::memory_order_relaxed);
      if (number >= calls && killed_enough.load(std::memory_order_relaxed)) break;
      FileRequest request;
      request.inode = number;
      const uint64_t started_ns = MonotonicNowNs();
      request.deadline_ns = started_ns + kDeadlineNs;
      const Completion completion = shim->Call(request);
      const uint64_t ended_ns = MonotonicNowNs();
      if (number < calls) {
        ledger.Complete(number);
      } else {
        beyond.fetch_add(1, std::memory_order_relaxed);
      }
      if (completion.outcome != BH_OUTCOME_ANSWERED) {
        by_policy.fetch_add(1);
      } else {
        killer.Completed(started_ns, ended_ns);
      }
      if (completion.allowed() != ((number & 1) == 0)) wrong.fetch_add(1);
      if (ended_ns > request.deadline_ns + kLateSlackNs) late.fetch_add(1);
      if (completion.issues > 1) reissued.fetch_add(1, std::memory_order_relaxed);
    }
  };
  const uint64_t started_ns = program.now_ns();
  std::vector<std::thread> callers;
  for (unsigned i = 0; i < options.threads; ++i) callers.emplace_back(call_all);
  std::thread reaper([&] {
    killer.Run(kills, *program.interrupted);
    killed_enough.store(true);
  });
  for (std::thread& caller : callers) caller.join();
  reaper.join();
  const double seconds = static_cast<double>(program.now_ns() - started_ns) / 1e9;
  (*service)->Stop();

  Report report("storm embedded");
  report.AddFigure("calls", static_cast<double>(std::min(next.load(), calls)), "",
                   static_cast<double>(calls), Report::Relation::kAtLeast);
  report.AddFigure("kills", static_cast<double>(killer.kills()), "", static_cast<double>(kills),
                   Report::Relation::kAtLeast);
  report.AddFigure("lost", static_cast<double>(ledger.Lost()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("completed_twice", static_cast<double>(ledger.Twice()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("wrong", static_cast<double>(wrong.load()), "", 0, Report::Relation::kAtMost);
  report.AddFigure("by_policy", static_cast<double>(by_policy.load()), "", 0,
                   Report::Relation::kAtMost);
  report.AddFigure("past_deadline", static_cast<double>(late.load()), "", 0,
                   Report::Relation::kAtMost);
  AddRecoveryFigures(report, killer);
  report.AddInfo("calls_beyond_the_ledger", static_cast<double>(beyond.load()), "");
  report.AddInfo("reissued", static_cast<double>(reissued.load()), "");
  report.AddInfo("time", seconds, "s");
  return Conclude(report, options.json);
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::StormMain(
      {.name = "storm-embedded",
       .about = "10,000,000 calls through the embedded shim, 2,000 kills of the host",
       .run = &bulkhead::StormEmbedded},
      argc, argv);
}
