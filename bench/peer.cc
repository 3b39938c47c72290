// SPDX-License-Identifier: Apache-2.0
#include "bench/peer.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "bench/bounded_wait.h"
#include "bench/prepare_call.h"
#include "ipc/control/host_protocol.h"
#include "ipc/control_socket.h"
#include "ipc/futex.h"
#include "ipc/generation_spec.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr uint32_t kSpinNs = 1'000'000;  // longer than anything here: a spinner spins

constexpr int kColdChannel = 3;

Mode ModeOf(uint64_t word) { return static_cast<Mode>(word & 0xff); }

int ChannelOf(Mode mode) {
  switch (mode) {
    case Mode::kCall:
      return 0;
    case Mode::kCallHostAsleep:
      return 1;
    case Mode::kCallCold:
      return kColdChannel;
    default:
      return 2;
  }
}

// One worker and one lane for each CPU, as far as a channel has them.
uint32_t CpuCount() {
  return static_cast<uint32_t>(std::clamp(sysconf(_SC_NPROCESSORS_CONF), 1l, long{BH_WORKERS_MAX}));
}

void AnswerRaw(Page& page, uint64_t& last) {
  for (int i = 0; i < 1000; ++i) {
    const uint64_t sequence = bh_load_acquire(&page.call.sequence);
    if (sequence != last) {
      uint8_t payload[48];
      std::memcpy(payload, page.call.payload, sizeof(payload));
      std::memcpy(page.reply.payload, payload, sizeof(payload));
      last = sequence;
      bh_store_release(&page.reply.sequence, sequence);
    } else {
      bh_cpu_relax();
    }
  }
}

// What a driver would do meanwhile: long enough for the caller to fall asleep.
void Work(const Page& page) {
  const uint64_t work_ns = bh_load_relaxed(&page.work_ns);
  if (work_ns == 0) return;
  const uint64_t until_ns = MonotonicAfterNs(work_ns);
  while (MonotonicNowNs() < until_ns) bh_cpu_relax();
}

// A mode in which the peer sleeps ends with a request of its own, which Rouse() makes after the
// mode has changed. The peer looks at the mode only when it has taken a request: so that request is
// taken in the mode that it ends, whether the peer was awake or not.
void AnswerFutex(Page& page, uint64_t mode, uint32_t& last) {
  for (;;) {
    const uint32_t seen = bh_load_acquire(&page.futex_call);
    if (seen == last) {
      FutexWait(&page.futex_call, last, FutexScope::kShared, kForeverNs);
      continue;
    }
    last = seen;
    if (bh_load_acquire(&page.mode) != mode) {
      bh_store_release(&page.futex_reply, seen);
      return;
    }
    Work(page);
    FutexPost(&page.futex_reply, seen);
  }
}

void Allow(HostPort& port, TakenCall& call) {
  const bh_verdict_reply reply = {.verdict = BH_VERDICT_ALLOW, .cacheability = BH_CACHE_NOT};
  port.Reply(call, BH_REPLY_DONE, {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply)});
}

void AnswerCalls(const Page& page, uint64_t mode, HostPort& port) {
  for (bool ended = false; !ended;) {
    std::optional<TakenCall> call = port.Take(0, kForeverNs);
    ended = bh_load_acquire(&page.mode) != mode;
    port.BeginDriver(*call);
    if (!ended) Work(page);
    Allow(port, *call);
  }
}

// Forever, with a thread for each CPU.
void ServeCold(HostPort* port) {
  for (uint32_t worker = 0; worker < CpuCount(); ++worker) {
    std::thread([port, worker] {
      PinToNone();
      (void)port->Bind(worker);
      while (std::optional<TakenCall> call = port->Take(worker, kForeverNs)) Allow(*port, *call);
    }).detach();
  }
}

// The peer's life. Its channels come through the socket, in order.
[[noreturn]] void Answer(Page& page, ControlSocket channels) {
  std::unique_ptr<HostPort> ports[Peer::kChannels];
  for (int i = 0; i < Peer::kChannels; ++i) {
    HostPortOptions options = {.generation = 1, .workers = 1, .spin_ns = i == 0 ? kSpinNs : 0};
    if (i == kColdChannel) options = {.generation = 1, .workers = CpuCount()};
    absl::StatusOr<ControlMessage> message = channels.Receive(MonotonicAfterNs(kWaitBoundNs));
    if (!message.ok() || !message->ExpectDescriptors(2).ok()) _exit(3);
    auto port = HostPort::Attach(message->TakeDescriptor(0), message->TakeDescriptor(1), UniqueFd(),
                                 options);
    if (!port.ok()) _exit(2);
    ports[i] = *std::move(port);
  }
  ServeCold(ports[kColdChannel].get());
  uint64_t raw = 0, mode_before = 0;
  uint32_t futex = 0;
  for (;;) {
    const uint64_t now = bh_load_acquire(&page.mode);
    if (now != mode_before) {
      PinTo(static_cast<int>(bh_load_relaxed(&page.cpu)));
      raw = bh_load_relaxed(&page.call.sequence);
      futex = bh_load_relaxed(&page.futex_call);
      mode_before = now;
      bh_store_release(&page.at_mode, now);
    }
    switch (const Mode mode = ModeOf(now); mode) {
      case Mode::kRaw:
        AnswerRaw(page, raw);
        break;
      case Mode::kFutexOne:
      case Mode::kFutexBoth:
        AnswerFutex(page, now, futex);
        break;
      case Mode::kCall:
      case Mode::kCallHostAsleep:
      case Mode::kCallBothAsleep:
        AnswerCalls(page, now, *ports[ChannelOf(mode)]);
        break;
      case Mode::kCallCold:
        FutexWait(reinterpret_cast<uint32_t*>(&page.mode), static_cast<uint32_t>(now),
                  FutexScope::kShared, kForeverNs);
        break;
      case Mode::kIdle:
        sched_yield();
        break;
    }
  }
}

}  // namespace

void PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  (void)sched_setaffinity(0, sizeof(set), &set);
}

void PinToNone() {
  cpu_set_t set;
  std::memset(&set, 0xff, sizeof(set));
  (void)sched_setaffinity(0, sizeof(set), &set);
}

void FutexWaitFor(uint32_t* word, uint32_t old) {
  SleepUntilChanged("the peer's answer", word, old);
}

void FutexPost(uint32_t* word, uint32_t value) {
  bh_store_release(word, value);
  FutexWake(word, FutexScope::kShared, 1);
}

absl::StatusOr<std::unique_ptr<Peer>> Peer::Start() {
  std::unique_ptr<Peer> peer(new Peer);
  void* memory =
      mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "a shared page");
  peer->page_ = static_cast<Page*>(memory);
  // The child comes first: a shim has a thread, and a child that is forked beside a thread may find
  // a lock of the allocator held for ever.
  absl::StatusOr<std::pair<ControlSocket, ControlSocket>> sockets = ControlSocket::Pair();
  if (!sockets.ok()) return sockets.status();
  absl::StatusOr<ForkedProcess> process = ForkedProcess::Start([&] {
    sockets->first = ControlSocket();
    Answer(*peer->page_, std::move(sockets->second));
  });
  if (!process.ok()) return process.status();
  peer->process_.emplace(*std::move(process));
  for (int i = 0; i < kChannels; ++i) {
    absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim = EmbeddedShim::Create({});
    if (!shim.ok()) return shim.status();
    peer->shims_[i] = *std::move(shim);
    ChannelSpec spec;
    spec.driver = "bench";
    spec.geometry = {.lanes = 2, .slots_per_lane = 16, .call_chunks = 16, .reply_chunks = 0};
    spec.spin_ns = i == 2 ? 0 : kSpinNs;
    if (i == kColdChannel) {
      spec.geometry.lanes = CpuCount();
      spec.spin_ns = ChannelSpec().spin_ns;
    }
    spec.cache_entries = 0;
    absl::StatusOr<ChannelId> channel = peer->shims_[i]->AddChannel(spec);
    if (!channel.ok()) return channel.status();
    absl::StatusOr<ChannelDescriptors> descriptors = peer->shims_[i]->Descriptors(*channel);
    if (!descriptors.ok()) return descriptors.status();
    absl::Status sent =
        sockets->first.Send(MakePing(static_cast<uint64_t>(i)),
                            {descriptors->call_region.get(), descriptors->reply_region.get()},
                            MonotonicAfterNs(kWaitBoundNs));
    if (!sent.ok()) return sent;
  }
  for (const auto& shim : peer->shims_) {
    absl::Status status = shim->BeginGeneration(
        0, GenerationSpec(1, SetOf({BH_CALLBACK_FILE_OPEN}), {}, 1), UniqueFd());
    if (!status.ok()) return status;
  }
  return peer;
}

Peer::~Peer() {
  process_.reset();
  if (page_ != nullptr) munmap(page_, sizeof(Page));
}

void Peer::Enter(Mode mode, int cpu, uint64_t work_ns) {
  const Mode before = ModeOf(page_->mode);
  const uint64_t next = (((page_->mode >> 8) + 1) << 8) | static_cast<uint64_t>(mode);
  bh_store_relaxed(&page_->cpu, static_cast<uint64_t>(cpu));
  bh_store_relaxed(&page_->work_ns, work_ns);
  bh_store_release(&page_->mode, next);
  Rouse(before);
  YieldUntil("the peer's change of mode", [&] { return bh_load_acquire(&page_->at_mode) == next; });
}

void Peer::Rouse(Mode mode) {
  switch (mode) {
    case Mode::kFutexOne:
    case Mode::kFutexBoth:
      FutexPost(&page_->futex_call, page_->futex_call + 1);
      break;
    case Mode::kCall:
    case Mode::kCallHostAsleep:
    case Mode::kCallBothAsleep: {
      const uint8_t nothing[BH_INLINE_BYTES] = {};
      if (!Call(mode, nothing)) WaitFailed("the peer's answer to the call that ends its mode");
      break;
    }
    case Mode::kCallCold:
      FutexWake(reinterpret_cast<uint32_t*>(&page_->mode), FutexScope::kShared, 1);
      break;
    case Mode::kIdle:
    case Mode::kRaw:
      break;
  }
}

bool Peer::Call(Mode mode, const uint8_t* arguments) {
  const uint64_t now_ns = MonotonicCoarseNs();
  bh_call call;
  PrepareCall(call, now_ns);
  std::memcpy(call.args, arguments, BH_INLINE_BYTES);
  shims_[ChannelOf(mode)]->Call(&call, now_ns);
  return call.outcome == BH_OUTCOME_ANSWERED && call.verdict == BH_VERDICT_ALLOW;
}

}  // namespace bulkhead
