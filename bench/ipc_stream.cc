// SPDX-License-Identifier: Apache-2.0
#include "bench/ipc_stream.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
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
#include "bench/raw_queues.h"
#include "bench/watchdog.h"
#include "host/report/percentiles.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

constexpr uint64_t kMessages = 64 * 1600;  // of a unit
constexpr uint64_t kWarmMessages = 2 * kStreamSlots;
constexpr double kRateLimit = 0.8;  // of the raw queue beside it
constexpr uint64_t kProbeTrips = 1000;
constexpr uint64_t kProbeWarmUpTrips = kProbeTrips / 8;

// What writer and reader say to each other beside the streams.
struct Desk {
  alignas(128) uint64_t turn;  // writer: counts the units; the low byte says which stream
  alignas(128) uint64_t sent;  // writer: all of this turn
  alignas(128) uint64_t done;  // reader: all of this turn that there was
  uint64_t at_turn;            // reader
  uint64_t delivered, wrong;   // reader: since it began
  RawLine call;                // for the probe
  alignas(128) RawLine reply;
};

// One way from the writer to the reader. Both have a copy of the object, and call it turn by turn.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual absl::Status Prepare() { return absl::OkStatus(); }  // before the fork
  virtual absl::Status StartReader() { return absl::OkStatus(); }
  virtual absl::Status StartWriter() { return absl::OkStatus(); }
  virtual void Write(uint64_t count) = 0;
  // Some of what is there, or nothing.
  virtual uint64_t Read(Desk& desk) = 0;
  virtual uint64_t Lost() { return 0; }
};

template <typename Queue>
class RawStream final : public Stream {
 public:
  absl::Status Prepare() override { return memory_.Map(); }
  absl::Status StartReader() override {
    reader_ = std::make_unique<typename Queue::Reader>(*memory_);
    return absl::OkStatus();
  }
  absl::Status StartWriter() override {
    writer_ = std::make_unique<typename Queue::Writer>(*memory_);
    return absl::OkStatus();
  }
  void Write(uint64_t count) override {
    for (uint64_t i = 0; i < count; ++i) writer_->Push(++number_);
    writer_->Flush();
  }
  uint64_t Read(Desk& desk) override {
    StreamMessage message;
    uint64_t count = 0, wrong = 0;
    for (; count < kStreamBatch && reader_->Pop(message); ++count) {
      const bool whole = message.number == ++number_ && message.words[6] == number_;
      wrong += whole ? 0 : 1;
    }
    desk.wrong += wrong;
    return count;
  }

 private:
  SharedObject<typename Queue::Memory> memory_;
  std::unique_ptr<typename Queue::Writer> writer_;
  std::unique_ptr<typename Queue::Reader> reader_;
  uint64_t number_ = 0;  // of the last one
};

// One channel with a ring for both ways of writing into it.
class Ring {
 public:
  absl::Status Prepare() {
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    if (!shim.ok()) return shim.status();
    shim_ = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "bench";
    spec.geometry = {.lanes = 1, .slots_per_lane = 1, .call_chunks = 0, .reply_chunks = 0};
    spec.notify_entries = kStreamSlots;
    absl::StatusOr<ChannelId> channel = shim_->AddChannel(spec);
    if (!channel.ok()) return channel.status();
    absl::Status status = shim_->SetNotifications(*channel, bh_set_everything());
    if (!status.ok()) return status;
    absl::StatusOr<ChannelDescriptors> regions = shim_->Descriptors(*channel);
    if (!regions.ok()) return regions.status();
    regions_ = *std::move(regions);
    return absl::OkStatus();
  }
  absl::Status StartReader() {
    auto port = HostPort::Attach(std::move(regions_.call_region), std::move(regions_.reply_region),
                                 UniqueFd(), {.generation = 1, .workers = 1, .spin_ns = 0});
    if (!port.ok()) return port.status();
    port_ = *std::move(port);
    auto reader = port_->OpenNotifications(std::move(regions_.notification_region));
    if (!reader.ok()) return reader.status();
    reader_ = *std::move(reader);
    return absl::OkStatus();
  }
  absl::Status StartWriter() {
    return shim_->BeginGeneration(0, GenerationSpec(1, {}, {}, 1, bh_set_everything()), UniqueFd());
  }

  uint64_t Lost() {
    const absl::StatusOr<bh_statistics> statistics = shim_->Statistics(0);
    if (!statistics.ok()) return 0;
    return std::accumulate(std::begin(statistics->lost), std::end(statistics->lost), uint64_t{0});
  }
  EmbeddedShim& shim() { return *shim_; }

  // Until `count` more find room: what the raw queues' writers wait for too. The bound is the
  // watchdog's, for the whole unit.
  void Await(uint64_t count) {
    while (room_ < count) {
      const absl::StatusOr<bh_statistics> statistics = shim_->Statistics(0);
      if (statistics.ok()) room_ = kStreamSlots - statistics->unread;
    }
    room_ -= count;
  }

  // As a host does: copied in batches, each given back before it is looked at.
  uint64_t Read(Desk& desk) {
    uint64_t wrong = 0;
    const size_t count = reader_->Read(absl::MakeSpan(batch_), 0);
    for (size_t i = 0; i < count; ++i) {
      const Notification& one = batch_[i];
      reader_->Release(one);
      bh_notify_process body;
      std::memcpy(&body, one.entry.body, sizeof(body));
      const bool whole = one.entry.number == number_ + one.entry.missed + 1 && body.inode > inode_;
      wrong += whole ? 0 : 1;
      number_ = one.entry.number;
      inode_ = body.inode;
    }
    desk.wrong += wrong;
    return count;
  }

  uint64_t next_inode = 0;

 private:
  std::unique_ptr<EmbeddedShim> shim_;
  ChannelDescriptors regions_;
  std::unique_ptr<HostPort> port_;
  std::unique_ptr<NotificationReader> reader_;
  std::array<Notification, kStreamBatch> batch_;
  uint64_t number_ = 0, inode_ = 0;
  uint64_t room_ = 0;  // at least
};

class Notifications final : public Stream {
 public:
  // `at_once`: how many the writer hands over together. One of those that share a ring `owns` it.
  Notifications(std::shared_ptr<Ring> ring, size_t at_once, bool owns)
      : ring_(std::move(ring)), at_once_(at_once), owns_(owns) {
    bh_notification notification = {};
    notification.kind = BH_NOTIFY_PROCESS_CREATED;
    notifications_.fill(notification);
  }

  absl::Status Prepare() override { return owns_ ? ring_->Prepare() : absl::OkStatus(); }
  absl::Status StartReader() override { return owns_ ? ring_->StartReader() : absl::OkStatus(); }
  absl::Status StartWriter() override { return owns_ ? ring_->StartWriter() : absl::OkStatus(); }
  void Write(uint64_t count) override {
    for (uint64_t done = 0; done < count; done += at_once_) {
      for (size_t i = 0; i < at_once_; ++i) {
        notifications_[i].body.process.inode = ++ring_->next_inode;
      }
      ring_->Await(at_once_);
      if (at_once_ == 1) {
        ring_->shim().Notify(notifications_[0]);
      } else {
        ring_->shim().Notify(absl::MakeConstSpan(notifications_.data(), at_once_));
      }
    }
  }
  uint64_t Read(Desk& desk) override { return ring_->Read(desk); }
  uint64_t Lost() override { return ring_->Lost(); }

 private:
  const std::shared_ptr<Ring> ring_;
  const size_t at_once_;
  const bool owns_;
  std::array<bh_notification, kStreamBatch> notifications_;
};

struct Lane {
  const char* name;
  const char* beside;  // the stream that its rate is divided by; null: itself a floor
  std::unique_ptr<Stream> stream;
};

std::vector<Lane> AllStreams() {
  auto ring = std::make_shared<Ring>();
  std::vector<Lane> all;
  all.push_back({"stream_raw_batched", nullptr, std::make_unique<RawStream<RawBatched>>()});
  all.push_back({"stream_raw_flagged", nullptr, std::make_unique<RawStream<RawFlagged>>()});
  all.push_back({"stream_batched", "stream_raw_batched",
                 std::make_unique<Notifications>(ring, kStreamBatch, /*owns=*/true)});
  all.push_back({"stream_each", "stream_raw_flagged",
                 std::make_unique<Notifications>(ring, 1, /*owns=*/false)});
  return all;
}

class TwoEnds {
 public:
  absl::Status Start() {
    if (absl::Status status = desk_.Map(); !status.ok()) return status;
    for (Lane& lane : lanes) {
      if (absl::Status status = lane.stream->Prepare(); !status.ok()) return status;
    }
    absl::StatusOr<ForkedProcess> reader = ForkedProcess::Start([this] { RunReader(); });
    if (!reader.ok()) return reader.status();
    reader_.emplace(*std::move(reader));
    for (Lane& lane : lanes) {
      if (absl::Status status = lane.stream->StartWriter(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // Nanoseconds of a round trip of the raw line.
  double Probe() {
    Enter(kProbe);
    uint64_t started_ns = 0;
    for (uint64_t i = 0; i < kProbeTrips; ++i) {
      if (i == kProbeWarmUpTrips) started_ns = MonotonicNowNs();
      const uint64_t sequence = desk_->call.sequence + 1;
      bh_store_release(&desk_->call.sequence, sequence);
      SpinUntil("the raw line's answer",
                [&] { return bh_load_acquire(&desk_->reply.sequence) == sequence; });
    }
    const uint64_t ended_ns = MonotonicNowNs();
    bh_store_release(&desk_->sent, desk_->turn);
    return static_cast<double>(ended_ns - started_ns) /
           static_cast<double>(kProbeTrips - kProbeWarmUpTrips);
  }

  // Messages that arrived in a microsecond, which are millions in a second.
  double Rate(size_t lane) {
    Run(lane, kWarmMessages);
    const uint64_t before = desk_->delivered;
    const uint64_t started_ns = MonotonicNowNs();
    Run(lane, kMessages);
    const uint64_t took_ns = MonotonicNowNs() - started_ns;
    return static_cast<double>(desk_->delivered - before) * 1e3 / static_cast<double>(took_ns);
  }

  uint64_t wrong() const { return desk_->wrong + wrong_; }
  std::vector<Lane> lanes = AllStreams();

 private:
  static constexpr uint64_t kProbe = 0xff;

  void Enter(uint64_t which) {
    const uint64_t next = (((desk_->turn >> 8) + 1) << 8) | which;
    bh_store_release(&desk_->turn, next);
    YieldUntil("the reader's change of turn",
               [&] { return bh_load_acquire(&desk_->at_turn) == next; });
  }

  // Each is delivered: the writer waits for room, so none may be lost.
  void Run(size_t lane, uint64_t count) {
    Stream& stream = *lanes[lane].stream;
    Enter(lane);
    const uint64_t delivered_before = desk_->delivered;
    const uint64_t lost_before = stream.Lost();
    stream.Write(count);
    bh_store_release(&desk_->sent, desk_->turn);
    SpinUntil("the reader's end of a turn",
              [&] { return bh_load_acquire(&desk_->done) == desk_->turn; });
    const uint64_t gone = stream.Lost() - lost_before;
    if (gone != 0 || desk_->delivered - delivered_before != count) ++wrong_;
  }

  [[noreturn]] void RunReader() {
    PinTo(1);
    for (Lane& lane : lanes) {
      if (!lane.stream->StartReader().ok()) _exit(2);
    }
    for (uint64_t turn = 0;;) {
      const uint64_t now = bh_load_acquire(&desk_->turn);
      if (now == turn) {
        sched_yield();
        continue;
      }
      turn = now;
      bh_store_release(&desk_->at_turn, turn);
      if ((turn & 0xff) == kProbe) {
        AnswerProbe(turn);
      } else {
        ReadAll(*lanes[turn & 0xff].stream, turn);
      }
    }
  }
  void AnswerProbe(uint64_t turn) {
    while (bh_load_acquire(&desk_->sent) != turn) {
      for (int i = 0; i < 100; ++i) {
        bh_store_release(&desk_->reply.sequence, bh_load_acquire(&desk_->call.sequence));
        bh_cpu_relax();
      }
    }
  }
  void ReadAll(Stream& stream, uint64_t turn) {
    uint64_t delivered = 0;
    for (;;) {
      const bool last = bh_load_acquire(&desk_->sent) == turn;
      const uint64_t count = stream.Read(*desk_);
      delivered += count;
      if (last && count == 0) break;
    }
    desk_->delivered += delivered;
    bh_store_release(&desk_->done, turn);
  }

  SharedObject<Desk> desk_;
  std::optional<ForkedProcess> reader_;
  uint64_t wrong_ = 0;
};

struct Series {
  std::vector<double> rate, ratio;
};

}  // namespace

absl::Status MeasureStreams(const BenchRun& run, int rounds, Report& report) {
  TwoEnds pair;
  if (absl::Status status = pair.Start(); !status.ok()) return status;
  Watchdog watchdog;
  PinTo(0);
  std::map<std::string, std::array<Series, 2>> all;
  size_t dropped = 0;
  double before_ns = pair.Probe();
  for (int round = 0; round < rounds; ++round) {
    if (run.interrupted()) return Interrupted();
    std::map<std::string, double> rates;
    for (size_t i = 0; i < pair.lanes.size(); ++i) {
      const Watchdog::Section section = watchdog.Watch("the end of a stream");
      rates[pair.lanes[i].name] = pair.Rate(i);
    }
    const double probe_ns = pair.Probe();
    const auto [low_ns, high_ns] = std::minmax(before_ns, probe_ns);
    before_ns = probe_ns;
    if (high_ns > kProbesAgree * low_ns || (low_ns < kNearNs) != (high_ns < kNearNs)) {
      ++dropped;
      continue;
    }
    const size_t distance = low_ns < kNearNs ? 0 : 1;
    for (const Lane& lane : pair.lanes) {
      Series& series = all[lane.name][distance];
      series.rate.push_back(rates[lane.name]);
      if (lane.beside != nullptr) {
        series.ratio.push_back(rates[lane.name] / rates[lane.beside]);
      }
    }
  }
  PinToNone();
  for (size_t distance = 0; distance < kDistances.size(); ++distance) {
    for (const Lane& lane : pair.lanes) {
      const Series& series = all[lane.name][distance];
      if (series.rate.empty()) continue;  // the CPUs never stood like that
      const std::string name = absl::StrCat(lane.name, "_", kDistances[distance]);
      report.AddInfo(absl::StrCat(name, "_p50"), ComputePercentiles(series.rate).p50, "M/s");
      if (lane.beside == nullptr) continue;
      const double ratio = ComputePercentiles(series.ratio).p50;
      if (run.limited) {
        report.AddFigure(absl::StrCat(name, "_ratio_p50"), ratio, "", kRateLimit,
                         Report::Relation::kAtLeast);
      } else {
        report.AddInfo(absl::StrCat(name, "_ratio_p50"), ratio, "");
      }
    }
  }
  report.AddFigure("stream_miscounted", static_cast<double>(pair.wrong()), "", 0,
                   Report::Relation::kAtMost);
  report.AddInfo("stream_rounds_dropped", static_cast<double>(dropped), "");
  return absl::OkStatus();
}

}  // namespace bulkhead
