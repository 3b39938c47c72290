// SPDX-License-Identifier: Apache-2.0
//
// bench-lines: what each choice in the layout of a call would win or lose. One thread asks and one
// answers, each on a CPU of its own, over raw lines; each case differs from the first one, the way
// that the channel has taken, in one thing. docs/decisions/what-a-line-costs.md has the answers.
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "bench/bounded_wait.h"
#include "bench/peer.h"
#include "bench/peers/comparison.h"
#include "host/report/percentiles.h"
#include "host/report/report.h"
#include "ipc/abi/atomics.h"
#include "ipc/abi/channel.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr int kExitSkipped = 77;
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kSlots = 32;
constexpr size_t kWords = 6;
constexpr size_t kBulkBytes = size_t{64} << 10;

struct Way {
  bool pause = true;
  size_t reply_apart = 8192;        // bytes from the call's line to the reply's
  bool second_line = false;         // the sequence word stands apart: an index, or a doorbell
  bool exchange = false;            // instead of a store with release
  bool looks_for_sleepers = false;  // a fence behind the store, then a look at a quiet line
  bool prefetches = false;          // its own line, for the next call
  size_t slots_polled = 1;
  bool bulk = false;  // and 64 KiB beside it, filled and summed
};

// Offsets within the area, a page for each thing that must not meet another.
constexpr size_t kCallAt = 0, kOthersAt = 16384;
constexpr size_t kCallIndexAt = 32768, kReplyIndexAt = 36864, kSleepersAt = 40960;
constexpr size_t kBulkAt = 65536;

struct Line {
  uint64_t sequence;
  uint64_t payload[kWords];
};

class Side {
 public:
  explicit Side(char* area) : area_(area) {}
  template <Way way>
  void Post(size_t at, size_t index_at, uint64_t sequence) const {
    Line& line = At<Line>(at);
    for (size_t i = 0; i < kWords; ++i) bh_store_relaxed(&line.payload[i], sequence + i);
    uint64_t& word = way.second_line ? At<uint64_t>(index_at) : line.sequence;
    if (way.exchange) {
      bh_exchange(&word, sequence);
    } else {
      bh_store_release(&word, sequence);
    }
    if (way.looks_for_sleepers) {
      bh_fence();
      if (bh_load_relaxed(&At<uint64_t>(kSleepersAt)) != 0) std::abort();
    }
  }
  template <Way way>
  void Await(size_t at, size_t index_at, uint64_t sequence) const {
    const Line& line = At<Line>(at);
    const uint64_t& word = way.second_line ? At<uint64_t>(index_at) : line.sequence;
    // SpinUntil() without its pause, which is one of the choices here.
    uint64_t until_ns = 0;
    for (uint32_t turns = 1; bh_load_acquire(&word) != sequence; ++turns) {
      for (size_t slot = 1; slot < way.slots_polled; ++slot) {
        if (bh_load_acquire(&At<Line>(kOthersAt + slot * sizeof(bh_call_slot)).sequence) != 0)
          std::abort();
      }
      if (way.pause) bh_cpu_relax();
      if ((turns & 0xfffffff) != 0) continue;
      const uint64_t now_ns = MonotonicNowNs();
      if (until_ns == 0) until_ns = now_ns + kWaitBoundNs;
      if (now_ns > until_ns) WaitFailed("the other thread's line");
    }
    uint64_t wrong = 0;
    for (size_t i = 0; i < kWords; ++i) {
      wrong |= bh_load_relaxed(&line.payload[i]) ^ (sequence + i);
    }
    if (wrong != 0) std::abort();
  }
  void Fill(uint64_t sequence) const {
    auto* words = &At<uint64_t>(kBulkAt);
    for (size_t i = 0; i < kBulkBytes / sizeof(uint64_t); ++i) words[i] = sequence;
  }
  void Sum(uint64_t sequence) const {
    const auto* words = &At<uint64_t>(kBulkAt);
    uint64_t sum = 0;
    for (size_t i = 0; i < kBulkBytes / sizeof(uint64_t); ++i) sum += words[i];
    if (sum != sequence * (kBulkBytes / sizeof(uint64_t))) std::abort();
  }
  template <Way way>
  void Ask(uint64_t first, int trips) const {
    for (int i = 0; i < trips; ++i) {
      const uint64_t sequence = first + static_cast<uint64_t>(i);
      if (way.bulk) Fill(sequence);
      Post<way>(kCallAt, kCallIndexAt, sequence);
      Await<Reading<way>()>(kCallAt + way.reply_apart, kReplyIndexAt, sequence);
      if (way.prefetches) __builtin_prefetch(area_ + kCallAt, 1);
    }
  }
  template <Way way>
  void Serve(uint64_t first, int trips) const {
    for (int i = 0; i < trips; ++i) {
      const uint64_t sequence = first + static_cast<uint64_t>(i);
      Await<way>(kCallAt, kCallIndexAt, sequence);
      if (way.bulk) Sum(sequence);
      Post<way>(kCallAt + way.reply_apart, kReplyIndexAt, sequence);
      if (way.prefetches) __builtin_prefetch(area_ + kCallAt + way.reply_apart, 1);
    }
  }

 private:
  // A caller knows where its answer comes.
  template <Way way>
  static constexpr Way Reading() {
    Way reading = way;
    reading.slots_polled = 1;
    return reading;
  }
  template <typename T>
  T& At(size_t offset) const {
    return *reinterpret_cast<T*>(area_ + offset);
  }
  char* const area_;
};

struct Case {
  const char* name;
  void (Side::*ask)(uint64_t first, int trips) const;
  void (Side::*serve)(uint64_t first, int trips) const;
  int beside;  // the case that it differs from in one thing
  bool huge_pages = false;
  int trips = 1000;
};

template <Way way>
constexpr Case Of(const char* name, int beside = 0, bool huge_pages = false) {
  return {name, &Side::Ask<way>, &Side::Serve<way>, beside, huge_pages, way.bulk ? 50 : 1000};
}

constexpr int kBulk = 10;
constexpr std::array kCases = {
    Of<Way{}>("line"),
    Of<Way{.pause = false}>("without_pause"),
    Of<Way{.reply_apart = 64}>("reply_64_apart"),
    Of<Way{.reply_apart = 128}>("reply_128_apart"),
    Of<Way{.second_line = true}>("second_line"),
    Of<Way{.exchange = true}>("exchange"),
    Of<Way{.looks_for_sleepers = true}>("look_for_sleepers"),
    Of<Way{.prefetches = true}>("prefetch"),
    Of<Way{.slots_polled = kSlots}>("poll_32_slots"),
    Of<Way{}>("huge_page", 0, true),
    Of<Way{.bulk = true}>("bulk", kBulk),
    Of<Way{.bulk = true}>("bulk_in_huge_page", kBulk, true),
};
static_assert(kCases[kBulk].trips == 50);

// By what the kernel did: the advice may be taken, and nothing come of it.
bool InHugePages(const char* area) {
  const auto address = reinterpret_cast<uintptr_t>(area);
  std::ifstream mappings("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(mappings, line);) {
    uintptr_t begin, end;
    size_t kib;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &begin, &end) == 2) {
      inside = begin <= address && address < end;
    } else if (inside && std::sscanf(line.c_str(), "AnonHugePages: %zu", &kib) == 1) {
      return kib != 0;
    }
  }
  return false;
}

// Two areas of one huge page's size, one of small pages and one that may be a huge page.
class Areas {
 public:
  ~Areas() {
    if (memory_ != MAP_FAILED) munmap(memory_, kBytes);
  }
  absl::Status Map() {
    memory_ = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) return absl::ErrnoToStatus(errno, "memory");
    const auto address = reinterpret_cast<uintptr_t>(memory_);
    small_ = static_cast<char*>(memory_) + (kHugePageBytes - address % kHugePageBytes);
    (void)madvise(small_, kHugePageBytes, MADV_NOHUGEPAGE);
    (void)madvise(huge(), kHugePageBytes, MADV_HUGEPAGE);
    std::memset(small_, 0, 2 * kHugePageBytes);
    has_huge_ = InHugePages(huge()) && !InHugePages(small_);
    return absl::OkStatus();
  }
  char* small() const { return small_; }
  char* huge() const { return small_ + kHugePageBytes; }
  bool has_huge() const { return has_huge_; }

 private:
  static constexpr size_t kBytes = 3 * kHugePageBytes;
  void* memory_ = MAP_FAILED;
  char* small_ = nullptr;
  bool has_huge_ = false;
};

// What the asking thread wants of the answering one. `turn` changes when the rest is there.
struct Order {
  alignas(128) uint64_t turn = 0;
  size_t at = 0;  // in kCases
  uint64_t first = 0;
  bool end = false;
};

class Bench {
 public:
  explicit Bench(const Areas& areas) : areas_(areas), server_([this] { Serve(); }) { PinTo(0); }
  ~Bench() {
    order_.end = true;
    bh_store_release(&order_.turn, order_.turn + 1);
    server_.join();
    PinToNone();
  }

  // Mean nanoseconds of a round trip.
  double Measure(size_t at) {
    const Case& unit = kCases[at];
    order_.at = at;
    order_.first = next_;
    bh_store_release(&order_.turn, order_.turn + 1);
    const Side side(AreaOf(unit));
    const int warm_up = unit.trips / 4;
    (side.*unit.ask)(next_, warm_up);
    const uint64_t started_ns = MonotonicNowNs();
    (side.*unit.ask)(next_ + static_cast<uint64_t>(warm_up), unit.trips);
    const uint64_t took_ns = MonotonicNowNs() - started_ns;
    next_ += static_cast<uint64_t>(warm_up + unit.trips);
    return static_cast<double>(took_ns) / unit.trips;
  }

 private:
  char* AreaOf(const Case& unit) const { return unit.huge_pages ? areas_.huge() : areas_.small(); }
  void Serve() {
    PinTo(1);
    for (uint64_t turn = 1;; ++turn) {
      while (bh_load_acquire(&order_.turn) != turn) bh_cpu_relax();
      if (order_.end) return;
      const Case& unit = kCases[order_.at];
      (Side(AreaOf(unit)).*unit.serve)(order_.first, unit.trips / 4 + unit.trips);
    }
  }
  const Areas& areas_;
  Order order_;
  uint64_t next_ = 1;
  std::thread server_;  // last: it uses the rest
};

struct Series {
  std::array<std::vector<double>, kCases.size()> ns, ratio;
};

void AddTo(Report& report, const std::array<Series, kDistances.size()>& all) {
  for (size_t distance = 0; distance < all.size(); ++distance) {
    for (size_t at = 0; at < kCases.size(); ++at) {
      if (all[distance].ns[at].empty()) continue;  // the CPUs never stood like that
      const std::string name = absl::StrCat(kCases[at].name, "_", kDistances[distance]);
      report.AddInfo(name, ComputePercentiles(all[distance].ns[at]).p50, "ns");
      if (static_cast<size_t>(kCases[at].beside) == at || at == 0) continue;
      report.AddInfo(
          absl::StrCat(name, "_to_", kCases[static_cast<size_t>(kCases[at].beside)].name),
          ComputePercentiles(all[distance].ratio[at]).p50, "");
    }
  }
}

absl::Status Run(int units, Report& report) {
  Areas areas;
  if (absl::Status status = areas.Map(); !status.ok()) return status;
  std::array<Series, kDistances.size()> all;
  size_t dropped = 0, kept = 0;
  {
    Bench bench(areas);
    for (int unit = 0; unit < units; ++unit) {
      std::array<double, kCases.size()> ns = {};
      const double before_ns = bench.Measure(0);
      for (size_t at = 0; at < kCases.size(); ++at) {
        if (!kCases[at].huge_pages || areas.has_huge()) ns[at] = bench.Measure(at);
      }
      const double after_ns = bench.Measure(0);
      if (std::max(before_ns, after_ns) > kProbesAgree * std::min(before_ns, after_ns)) {
        ++dropped;
        continue;
      }
      ++kept;
      Series& series = all[before_ns < kNearNs ? 0 : 1];
      for (size_t at = 0; at < kCases.size(); ++at) {
        if (ns[at] == 0) continue;
        series.ns[at].push_back(ns[at]);
        series.ratio[at].push_back(ns[at] / ns[static_cast<size_t>(kCases[at].beside)]);
      }
    }
  }
  AddTo(report, all);
  report.AddInfo("rounds_dropped", static_cast<double>(dropped), "");
  report.AddFigure("rounds", static_cast<double>(kept), "", 1, Report::Relation::kAtLeast);
  return absl::OkStatus();
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  CLI::App app("What each choice in the layout of a call would win or lose, on raw lines");
  int units = 1000;
  bool short_form = false;
  std::string json;
  app.add_option("--units", units, "Rounds, each with all cases")->check(CLI::Range(1, 100'000));
  app.add_flag("--short", short_form, "The form for the test suite: 100 rounds");
  app.add_option("--json", json, "Write the report to this file")->type_name("FILE");
  CLI11_PARSE(app, argc, argv);
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
    std::cout << "SKIP: two CPUs are measured, and this machine has one\n";
    return bulkhead::kExitSkipped;
  }
  bulkhead::Report report("bench lines");
  absl::Status status = bulkhead::Run(short_form ? 100 : units, report);
  report.PrintTable(std::cout);
  if (status.ok() && !json.empty()) status = report.WriteJson(json);
  if (!status.ok()) {
    std::cerr << "bench-lines: " << status.message() << "\n";
    return 2;
  }
  return report.ExitCode();
}
