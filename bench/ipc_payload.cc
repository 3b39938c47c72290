// SPDX-License-Identifier: Apache-2.0
#include "bench/ipc_payload.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bounded_wait.h"
#include "bench/forked_process.h"
#include "bench/peer.h"
#include "bench/peers/comparison.h"
#include "bench/peers/shared_object.h"
#include "bench/prepare_call.h"
#include "host/report/percentiles.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

constexpr size_t kHeaderBytes = 1048576, kTouchBytes = 65536;
constexpr size_t kHeaderWords = 8, kTouchWords = kTouchBytes / sizeof(uint64_t);
constexpr uint32_t kSpinNs = 1'000'000;  // longer than anything here: a spinner spins
constexpr uint64_t kLookNs = 2'000'000;  // how long a host waits before it looks at its turn
constexpr size_t kProbeTrips = 1000;

enum Way : uint64_t { kLine, kCall, kHeader, kRawTouch, kOurTouch, kWays };
constexpr std::array<size_t, kWays> kTrips = {4000, 4000, 1000, 200, 200};

uint64_t Ticks() {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return MonotonicNowNs();
#endif
}

// What a call says: which sum its payload has.
struct Question {
  uint64_t number, sum, rest[4];
};
static_assert(sizeof(Question) == BH_INLINE_BYTES);

struct Line {
  uint64_t sequence;
  Question question;
};

struct Desk {
  alignas(128) uint64_t turn;  // caller: counts the units; the low byte is the way
  alignas(128) uint64_t at_turn;
  alignas(128) Line call;
  alignas(128) Line reply;
  alignas(4096) uint64_t words[kTouchWords];
};

// The same work on raw shared memory and on a loan. Returns the sum.
uint64_t Fill(uint64_t* words, size_t count, uint64_t value) {
  for (size_t i = 0; i < count; ++i) words[i] = value + i;
  return count * value + count * (count - 1) / 2;
}
uint64_t Sum(const uint64_t* words, size_t count) {
  return std::accumulate(words, words + count, uint64_t{0});
}

class Caller {
 public:
  absl::Status Start() {
    if (absl::Status status = desk_.Map(); !status.ok()) return status;
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    if (!shim.ok()) return shim.status();
    shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "bench";
    spec.geometry = {.lanes = 2, .slots_per_lane = 16, .call_chunks = 512, .reply_chunks = 0};
    spec.spin_ns = kSpinNs;
    spec.cache_entries = 0;
    absl::StatusOr<ChannelId> channel = shim_->AddChannel(spec);
    if (!channel.ok()) return channel.status();
    absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(*channel);
    if (!regions.ok()) return regions.status();
    absl::StatusOr<ForkedProcess> host = ForkedProcess::Start([&] {
      PinTo(1);
      auto port =
          HostPort::Attach(std::move(regions->call_region), std::move(regions->reply_region),
                           UniqueFd(), {.generation = 1, .workers = 1, .spin_ns = kSpinNs});
      if (!port.ok()) _exit(2);
      Answer(**port);
    });
    if (!host.ok()) return host.status();
    host_.emplace(*std::move(host));
    return shim_->BeginGeneration(0, GenerationSpec(1, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1),
                                  UniqueFd());
  }

  // Ticks of each trip. Valid until the next one.
  const std::vector<double>& Run(Way way, size_t trips) {
    const uint64_t next = (((desk_->turn >> 8) + 1) << 8) | way;
    bh_store_release(&desk_->turn, next);
    YieldUntil("the host's change of turn",
               [&] { return bh_load_acquire(&desk_->at_turn) == next; });
    for (size_t i = 0; i < trips / 8 + 1; ++i) Trip(way);
    ticks_.clear();
    ticks_.reserve(trips);
    uint64_t before = Ticks();
    for (size_t i = 0; i < trips; ++i) {
      Trip(way);
      const uint64_t after = Ticks();
      ticks_.push_back(static_cast<double>(after - before));
      before = after;
    }
    return ticks_;
  }

  uint64_t wrong() const { return wrong_; }

 private:
  void Trip(Way way) {
    Question question = {.number = ++number_, .sum = 0, .rest = {}};
    switch (way) {
      case kLine:
        return Ask(question);
      case kRawTouch:
        question.sum = Fill(desk_->words, kTouchWords, number_);
        return Ask(question);
      case kHeader:
        return Call(question, kHeaderBytes, kHeaderWords);
      case kOurTouch:
        return Call(question, kTouchBytes, kTouchWords);
      default:
        return Call(question, 0, 0);
    }
  }

  void Ask(const Question& question) {
    Desk& desk = *desk_;
    const uint64_t sequence = desk.call.sequence + 1;
    desk.call.question = question;
    bh_store_release(&desk.call.sequence, sequence);
    SpinUntil("the raw line's answer",
              [&] { return bh_load_acquire(&desk.reply.sequence) == sequence; });
    const Question reply = desk.reply.question;
    if (reply.number != question.number || reply.sum != question.sum) ++wrong_;
  }

  void Call(Question& question, size_t lent, size_t words) {
    bh_call call;
    PrepareCall(call, MonotonicCoarseNs());
    if (lent != 0) {
      absl::StatusOr<PayloadLoan> loan = shim_->Lend(0, lent);
      if (!loan.ok()) {
        ++wrong_;
        return;
      }
      question.sum =
          Fill(reinterpret_cast<uint64_t*>(loan->bytes().data()), words, question.number);
      loan->MakePayloadOf(call);
    }
    std::memcpy(call.args, &question, sizeof(question));
    shim_->Call(&call);
    const bool right = call.outcome == BH_OUTCOME_ANSWERED && call.verdict == BH_VERDICT_ALLOW;
    if (!right) ++wrong_;
  }

  // ---- The other process ----

  [[noreturn]] void Answer(HostPort& port) {
    for (uint64_t turn = 0;;) {
      const uint64_t now = bh_load_acquire(&desk_->turn);
      if (now != turn) {
        turn = now;
        bh_store_release(&desk_->at_turn, turn);
      }
      switch (turn & 0xff) {
        case kLine:
          AnswerLine(0);
          break;
        case kRawTouch:
          AnswerLine(kTouchWords);
          break;
        case kHeader:
          AnswerCalls(port, kHeaderWords);
          break;
        case kOurTouch:
          AnswerCalls(port, kTouchWords);
          break;
        default:
          AnswerCalls(port, 0);
      }
    }
  }
  void AnswerLine(size_t words) {
    Desk& desk = *desk_;
    for (int i = 0; i < 1000; ++i) {
      const uint64_t sequence = bh_load_acquire(&desk.call.sequence);
      if (sequence == desk.reply.sequence) {
        bh_cpu_relax();
        continue;
      }
      Question question = desk.call.question;
      if (words != 0) question.sum = Sum(desk.words, words);
      desk.reply.question = question;
      bh_store_release(&desk.reply.sequence, sequence);
    }
  }
  static void AnswerCalls(HostPort& port, size_t words) {
    const uint64_t until_ns = MonotonicAfterNs(kLookNs);
    for (int i = 0; i < 256; ++i) {
      std::optional<TakenCall> call = port.Take(0, until_ns);
      if (!call) return;
      port.BeginDriver(*call);
      bh_verdict_reply reply = {.verdict = BH_VERDICT_ALLOW, .cacheability = BH_CACHE_NOT};
      if (words != 0 && !HasSum(port, *call, words)) reply.verdict = BH_VERDICT_DENY;
      port.Reply(*call, BH_REPLY_DONE, {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply)});
    }
  }
  static bool HasSum(HostPort& port, const TakenCall& call, size_t words) {
    Question question;
    std::memcpy(&question, call.args, sizeof(question));
    const absl::StatusOr<CallDetails> details = port.Details(call);
    return details.ok() && details->payload.size() >= words * sizeof(uint64_t) &&
           Sum(reinterpret_cast<const uint64_t*>(details->payload.data()), words) == question.sum;
  }

  SharedObject<Desk> desk_;
  std::unique_ptr<EmbeddedShim> shim_;
  std::optional<ForkedProcess> host_;
  uint64_t number_ = 0, wrong_ = 0;
  std::vector<double> ticks_;
};

// At one distance; one value for a round, but for the pooled ones.
struct Series {
  std::array<std::vector<double>, kWays> p50_ns;
  std::vector<double> header_ratio, touch_ratio;
  struct Tail {
    std::vector<double> p99_ratio, p999_ratio;  // of a unit
    std::vector<double> all_ns;
  } line, call;
};

void AddTail(const std::vector<double>& ticks, double ns, Series::Tail& tail) {
  const Percentiles unit = ComputePercentiles(ticks);
  tail.p99_ratio.push_back(unit.p99 / unit.p50);
  tail.p999_ratio.push_back(unit.p999 / unit.p50);
  for (const double one : ticks) tail.all_ns.push_back(one * ns);
}

class Figures {
 public:
  Figures(Report& report, bool limited, const char* distance)
      : report_(report), limited_(limited), distance_(distance) {}
  void Add(const char* name, const std::vector<double>& values, const char* unit, double limit) {
    const std::string full =
        absl::StrCat(name, "_", distance_, unit[0] == '\0' ? "_ratio" : "_p50");
    const double value = ComputePercentiles(values).p50;
    if (limited_ && limit != 0) {
      report_.AddFigure(full, value, unit, limit, Report::Relation::kAtMost);
    } else {
      report_.AddInfo(full, value, unit);
    }
  }

 private:
  Report& report_;
  const bool limited_;
  const char* const distance_;
};

void AddTo(Report& report, const Series& series, bool limited, const char* distance) {
  Figures figures(report, limited, distance);
  figures.Add("payload_header_1mib", series.header_ratio, "", 1.15);
  figures.Add("payload_header_1mib", series.p50_ns[kHeader], "ns", 0);
  figures.Add("payload_call", series.p50_ns[kCall], "ns", 0);
  figures.Add("payload_touch_64kib", series.touch_ratio, "", 1.1);
  figures.Add("payload_touch_64kib", series.p50_ns[kOurTouch], "ns", 0);
  figures.Add("payload_raw_touch_64kib", series.p50_ns[kRawTouch], "ns", 0);
  figures.Add("tail_call_p99", series.call.p99_ratio, "", 1.6);
  figures.Add("tail_call_p999", series.call.p999_ratio, "", 2);
  figures.Add("tail_line_p99", series.line.p99_ratio, "", 0);
  figures.Add("tail_line_p999", series.line.p999_ratio, "", 0);
  // Of all calls of all units, which drift between them.
  const Percentiles call = ComputePercentiles(series.call.all_ns);
  const Percentiles line = ComputePercentiles(series.line.all_ns);
  report.AddInfo(absl::StrCat("tail_call_all_", distance, "_p50"), call.p50, "ns");
  report.AddInfo(absl::StrCat("tail_call_all_", distance, "_p99"), call.p99, "ns");
  report.AddInfo(absl::StrCat("tail_call_all_", distance, "_p999"), call.p999, "ns");
  report.AddInfo(absl::StrCat("tail_line_all_", distance, "_p50"), line.p50, "ns");
  report.AddInfo(absl::StrCat("tail_line_all_", distance, "_p99"), line.p99, "ns");
  report.AddInfo(absl::StrCat("tail_line_all_", distance, "_p999"), line.p999, "ns");
}

// Nanoseconds of a tick.
double TickNs() {
  const uint64_t ticks = Ticks();
  const uint64_t from_ns = MonotonicNowNs();
  while (MonotonicNowNs() - from_ns < 20 * kNanosecondsPerMillisecond) bh_cpu_relax();
  const uint64_t took_ns = MonotonicNowNs() - from_ns;
  return static_cast<double>(took_ns) / static_cast<double>(Ticks() - ticks);
}

}  // namespace

absl::Status MeasurePayloads(const BenchRun& run, int rounds, Report& report) {
  Caller caller;
  if (absl::Status status = caller.Start(); !status.ok()) return status;
  PinTo(0);
  const double tick_ns = TickNs();
  std::array<Series, 2> all;
  size_t dropped = 0;
  const auto probe = [&] {
    return ComputePercentiles(caller.Run(kLine, kProbeTrips)).p50 * tick_ns;
  };
  double before_ns = probe();
  for (int round = 0; round < rounds; ++round) {
    if (run.interrupted()) return Interrupted();
    std::array<std::vector<double>, kWays> ticks;
    for (uint64_t way = 0; way < kWays; ++way) {
      ticks[way] = caller.Run(static_cast<Way>(way), kTrips[way]);
    }
    const double probe_ns = probe();
    const auto [low_ns, high_ns] = std::minmax(before_ns, probe_ns);
    before_ns = probe_ns;
    if (high_ns > kProbesAgree * low_ns || (low_ns < kNearNs) != (high_ns < kNearNs)) {
      ++dropped;
      continue;
    }
    Series& series = all[low_ns < kNearNs ? 0 : 1];
    std::array<double, kWays> p50;
    for (size_t way = 0; way < kWays; ++way) {
      p50[way] = ComputePercentiles(ticks[way]).p50;
      series.p50_ns[way].push_back(p50[way] * tick_ns);
    }
    series.header_ratio.push_back(p50[kHeader] / p50[kCall]);
    series.touch_ratio.push_back(p50[kOurTouch] / p50[kRawTouch]);
    AddTail(ticks[kLine], tick_ns, series.line);
    AddTail(ticks[kCall], tick_ns, series.call);
  }
  PinToNone();
  for (size_t distance = 0; distance < kDistances.size(); ++distance) {
    if (all[distance].header_ratio.empty()) continue;  // the CPUs never stood like that
    AddTo(report, all[distance], run.limited, kDistances[distance]);
  }
  report.AddFigure("payload_calls_wrong", static_cast<double>(caller.wrong()), "", 0,
                   Report::Relation::kAtMost);
  report.AddInfo("payload_rounds_dropped", static_cast<double>(dropped), "");
  return absl::OkStatus();
}

}  // namespace bulkhead
