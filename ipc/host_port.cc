// SPDX-License-Identifier: Apache-2.0
#include "ipc/host_port.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ipc/check.h"
#include "ipc/futex_transport.h"
#include "ipc/host_view_unsafe.h"
#include "ipc/spin_budget.h"

namespace bulkhead {
namespace {

constexpr size_t kRecentSlots = 4;
constexpr uint32_t kPollsPerLook = 32;  // at the clock
// A host whose caller is near and calls again at once looks closely and without the clock: 0.3 us.
// Not longer: between CPUs that are far from each other a close look takes the line from its
// writer.
constexpr uint32_t kClosePolls = 40;
constexpr uint32_t kClosePollNs = 8;
constexpr uint32_t kPollsPerOther = 4;  // a look at another slot
// Between two looks at the clock a spinner needs well below a microsecond. More means that it lost
// its CPU.
constexpr uint64_t kPreemptedNs = 100'000;
// What one look at a slot may take. A worker that was away for as long as a look at each of them
// takes looks at all before its next call.
constexpr uint64_t kTicksPerSlot = 1000;
constexpr size_t kTurns = 64;

// A clock for comparisons only, of 1 to 5 ticks in a nanosecond on x86. Much cheaper than the
// kernel's, which would cost a call more than its other parts.
uint64_t Ticks() {
#ifdef __x86_64__
  return __builtin_ia32_rdtsc();
#else
  return MonotonicNowNs();
#endif
}

// The machine's CPUs, not this process's: a host that is pinned to a CPU of its own does well to
// spin there while its callers run on others. Where it shares that CPU, the budget learns it.
bool MachineHasOneCpu() { return sysconf(_SC_NPROCESSORS_ONLN) == 1; }

bool Inside(uint64_t offset, uint64_t bytes, uint64_t pool_bytes) {
  return offset <= pool_bytes && bytes <= pool_bytes - offset;
}

}  // namespace

struct HostPort::State {
  // One worker's own memory, apart from the others'.
  struct alignas(BH_CACHE_LINE) Worker {
    std::array<uint32_t, kRecentSlots> recent = {};  // slots served last, the last first
    SpinBudget spin{0};
    std::vector<uint32_t> order;  // all slots, those of the home lanes first
    uint32_t turn = 0;            // in `recent`
    uint32_t next = 0;            // in `order`
    uint32_t sleep = BH_SLEEPS;   // enum bh_sleep: what it announces
    uint64_t came = 0;            // Ticks() when it came for its last call
    // By slot: a ticket that is not this worker's to take (taken, or of another generation). Keeps
    // scans away from `claims`, which other workers write.
    std::vector<uint64_t> seen;
    std::atomic<uint64_t> sleeps{0}, malformed{0};
  };
  // What is replied to in one slot. Touched by the thread that has the slot's call, which need not
  // be a worker; ordered by the slot's tickets, so that no count is lost without an atomic add.
  struct alignas(BH_CACHE_LINE) Replies {
    // What the reply slot's payload_bytes holds: its line is written only when that changes.
    std::atomic<uint64_t> payload_bytes{0};
    std::atomic<uint64_t> calls{0}, bells{0};
  };

  State(HostView mapped, const bh_geometry& shape, std::unique_ptr<HostTransport> way,
        const HostPortOptions& wanted)
      : view(std::move(mapped)),
        geometry(shape),
        slots(bh_slot_count(&shape)),
        call_pool_bytes(uint64_t{shape.call_chunks} * BH_POOL_CHUNK_BYTES),
        reply_pool_bytes(uint64_t{shape.reply_chunks} * BH_POOL_CHUNK_BYTES),
        options(wanted),
        claims(slots),
        replies(slots),
        transport(std::move(way)),
        workers(wanted.workers) {
    const uint32_t spin_ns = MachineHasOneCpu() ? 0 : options.spin_ns;
    for (uint32_t w = 0; w < options.workers; ++w) {
      Worker& worker = workers[w];
      worker.spin = SpinBudget(spin_ns);
      worker.seen.assign(slots, BH_TICKET_NONE);
      worker.order.reserve(slots);
      for (uint32_t distance = 0; distance < options.workers; ++distance) {
        for (uint32_t lane = 0; lane < geometry.lanes; ++lane) {
          if (lane % options.workers != (w + distance) % options.workers) continue;
          for (uint32_t i = 0; i < geometry.slots_per_lane; ++i) {
            worker.order.push_back(lane * geometry.slots_per_lane + i);
          }
        }
      }
      worker.recent.fill(worker.order[0]);
    }
    // Clears what a dead generation left: no worker sleeps. `begun` stays: no ticket comes twice.
    for (uint32_t w = 0; w < BH_WORKERS_MAX; ++w) bh_store_relaxed(view.SleepWord(w), 0u);
    for (uint32_t slot = 0; slot < slots; ++slot) view.StoreReplyPayloadBytes(slot, 0);
  }

  // Whether the last call came from this worker's own CPU, which its caller needs to go on.
  bool CallerIsHere(uint32_t w) const {
    const Worker& worker = workers[w];
    return worker.sleep == BH_SLEEPS_BOUND && worker.recent[0] / geometry.slots_per_lane == w;
  }
  bool MayTake(const Worker& worker, uint32_t slot) const {
    return view.Ticket(slot) != worker.seen[slot];
  }
  bool Claim(uint32_t slot, uint64_t claimed, uint64_t ticket);
  bool TryTake(Worker& worker, uint32_t slot, uint64_t* ticket);
  bool PollRecent(Worker& worker, uint32_t* slot, uint64_t* ticket) {
    *slot = worker.recent[0];
    return MayTake(worker, *slot) && TryTake(worker, *slot, ticket);
  }
  bool PollOthers(Worker& worker, uint32_t* slot, uint64_t* ticket);
  bool Poll(Worker& worker, uint32_t* slot, uint64_t* ticket);
  bool Scan(Worker& worker, uint32_t* slot, uint64_t* ticket);
  bool TakeInTurn(Worker& worker, uint32_t* slot, uint64_t* ticket);
  bool PollClosely(uint32_t w, uint32_t* slot, uint64_t* ticket);
  bool Spin(Worker& worker, uint64_t started_ns, uint64_t until_ns, uint32_t* slot,
            uint64_t* ticket);
  bool Wait(uint32_t w, uint64_t until_ns, uint32_t* slot, uint64_t* ticket);
  bool AnotherWaits(const Worker& worker) const;
  void PassWakeOn(uint32_t from);
  bool WakeWorker(uint32_t w);
  bool stopping() const { return stop.load(std::memory_order_relaxed); }

  HostView view;
  const bh_geometry geometry;
  const uint32_t slots;
  const uint64_t call_pool_bytes;
  const uint64_t reply_pool_bytes;
  const HostPortOptions options;
  std::atomic<bool> stop{false};
  // By slot: the last ticket that a worker claimed.
  std::vector<std::atomic<uint64_t>> claims;
  std::vector<Replies> replies;  // by slot
  const std::unique_ptr<HostTransport> transport;
  std::vector<Worker> workers;
  // By opener: the number of his last turn. Openers that meet in one have their turns together.
  std::array<std::atomic<uint64_t>, kTurns> turns = {};
  std::atomic<uint64_t> turn{0};
};

// False: another worker was faster. A single worker has no rival.
inline bool HostPort::State::Claim(uint32_t slot, uint64_t claimed, uint64_t ticket) {
  if (options.workers == 1) {
    claims[slot].store(ticket, std::memory_order_relaxed);
    return true;
  }
  return claims[slot].compare_exchange_strong(claimed, ticket, std::memory_order_acq_rel);
}

// SUBTLE: the claim is read before the ticket. A worker that was held up between the two could
// otherwise claim a ticket that another worker has answered long since: the exchange succeeds only
// when no worker claimed anything in this slot after `claimed` was read, and no ticket comes twice.
inline bool HostPort::State::TryTake(Worker& worker, uint32_t slot, uint64_t* ticket) {
  const uint64_t claimed = claims[slot].load(std::memory_order_acquire);
  const uint64_t found = view.Ticket(slot);
  if (found == claimed || bh_ticket_generation(found) != options.generation) {
    worker.seen[slot] = found;
    return false;
  }
  if (!Claim(slot, claimed, found)) return false;
  worker.seen[slot] = found;
  *ticket = found;
  return true;
}

// One of the slots served lately and one of all slots, in turn: what a look takes is what a call in
// the slot served last waits.
bool HostPort::State::PollOthers(Worker& worker, uint32_t* slot, uint64_t* ticket) {
  *slot = worker.recent[worker.turn++ % kRecentSlots];
  if (MayTake(worker, *slot) && TryTake(worker, *slot, ticket)) return true;
  if (++worker.next == slots) worker.next = 0;
  *slot = worker.order[worker.next];
  return MayTake(worker, *slot) && TryTake(worker, *slot, ticket);
}

// The slot served last, where a busy caller's next call comes, between every two others.
bool HostPort::State::Poll(Worker& worker, uint32_t* slot, uint64_t* ticket) {
  return PollRecent(worker, slot, ticket) || PollOthers(worker, slot, ticket);
}

bool HostPort::State::Scan(Worker& worker, uint32_t* slot, uint64_t* ticket) {
  for (const uint32_t candidate : worker.order) {
    if (MayTake(worker, candidate) && TryTake(worker, candidate, ticket)) {
      *slot = candidate;
      return true;
    }
  }
  return false;
}

// After a driver that took long over its last call: the next is of the opener whose last turn was
// longest ago, and of its calls the one that has the least time left. So the calls of one opener do
// not keep those of another waiting, however many they are.
bool HostPort::State::TakeInTurn(Worker& worker, uint32_t* slot, uint64_t* ticket) {
  for (uint32_t tries = 0; tries < slots; ++tries) {     // another worker may be faster each time
    std::optional<std::pair<uint64_t, uint64_t>> first;  // turn and deadline
    std::atomic<uint64_t>* first_turn = nullptr;
    for (const uint32_t candidate : worker.order) {
      if (!MayTake(worker, candidate)) continue;
      const uint64_t claimed = claims[candidate].load(std::memory_order_acquire);
      const uint64_t found = view.Ticket(candidate);
      if (found == claimed || bh_ticket_generation(found) != options.generation) {
        worker.seen[candidate] = found;
        continue;
      }
      std::atomic<uint64_t>& its_turn = turns[view.Opener(candidate) % kTurns];
      const std::pair<uint64_t, uint64_t> its = {its_turn.load(std::memory_order_relaxed),
                                                 view.DeadlineNs(candidate)};
      if (first.has_value() && *first <= its) continue;
      first = its;
      first_turn = &its_turn;
      *slot = candidate;
    }
    if (!first.has_value()) return false;
    if (TryTake(worker, *slot, ticket)) {
      // SUBTLE: relaxed: turns decide the order, and nothing else.
      first_turn->store(turn.fetch_add(1, std::memory_order_relaxed) + 1,
                        std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

// Before the first look at the clock, which a caller that calls again at once would wait for.
bool HostPort::State::PollClosely(uint32_t w, uint32_t* slot, uint64_t* ticket) {
  if (CallerIsHere(w)) return false;
  Worker& worker = workers[w];
  const uint32_t polls = std::min(worker.spin.budget_ns() / kClosePollNs, kClosePolls);
  for (uint32_t i = 0; i < polls; ++i) {
    if (PollRecent(worker, slot, ticket) ||
        (i % kPollsPerOther == 0 && PollOthers(worker, slot, ticket))) {
      worker.spin.LearnPaid();
      return true;
    }
    bh_cpu_pace();
  }
  return false;
}

bool HostPort::State::Spin(Worker& worker, uint64_t started_ns, uint64_t until_ns, uint32_t* slot,
                           uint64_t* ticket) {
  const uint64_t spin_until_ns = std::min(until_ns, started_ns + worker.spin.budget_ns());
  uint64_t last_ns = started_ns;
  while (last_ns < spin_until_ns && !stopping()) {
    for (uint32_t i = 0; i < kPollsPerLook; ++i) {
      if (Poll(worker, slot, ticket)) return true;
      bh_cpu_relax();
    }
    const uint64_t now_ns = MonotonicNowNs();
    if (now_ns - last_ns > kPreemptedNs) {
      worker.spin.LearnPreempted();
      return false;
    }
    last_ns = now_ns;
  }
  return false;
}

// Not true: nothing came until until_ns, or StopTaking was called.
bool HostPort::State::Wait(uint32_t w, uint64_t until_ns, uint32_t* slot, uint64_t* ticket) {
  Worker& worker = workers[w];
  const bool caller_is_here = CallerIsHere(w);
  const uint64_t started_ns = MonotonicNowNs();
  const auto learn = [&] {
    if (!caller_is_here) worker.spin.Learn(MonotonicNowNs() - started_ns);
  };
  if (!caller_is_here && Spin(worker, started_ns, until_ns, slot, ticket)) {
    worker.spin.LearnPaid();  // no look at the clock: the call is waiting
    return true;
  }
  uint32_t* word = view.SleepWord(w);
  FutexResult woken = FutexResult::kLookAgain;
  while (!stopping()) {
    // Announce, fence, look again. The shim stores its ticket, fences, and looks for announcements:
    // either it sees ours, or we see its ticket. StopTaking does the same with its flag.
    bh_store_relaxed(word, worker.sleep);
    bh_fence();
    const bool found = Scan(worker, slot, ticket);
    if (!found && !stopping() && woken != FutexResult::kTimedOut) {
      worker.sleeps.fetch_add(1, std::memory_order_relaxed);
      woken = transport->WaitForCall(w, word, worker.sleep, until_ns);
      // On the way round the scan pays for the wake-up that the shim may have spent on us. An
      // exchange: a caller that spends one on us has stored its ticket before we look.
      bh_exchange(word, 0u);
      if (Scan(worker, slot, ticket)) {
        // It may have been spent for another call, whose caller wakes no other worker.
        if (AnotherWaits(worker)) PassWakeOn(w);
        learn();
        return true;
      }
      continue;
    }
    // A caller spent a wake-up on us for a call that came after the one we found: another sleeper
    // must look for it, or it would wait for our driver.
    const bool spent = bh_exchange(word, 0u) == 0;
    if (found) {
      if (spent) PassWakeOn(w);
      learn();
      return true;
    }
    if (spent && Scan(worker, slot, ticket)) return true;
    return false;
  }
  return false;
}

bool HostPort::State::WakeWorker(uint32_t w) {
  uint32_t* word = view.SleepWord(w);
  if (bh_load_relaxed(word) == 0 || bh_exchange(word, 0u) == 0) return false;
  transport->WakeWorker(w, word);
  return true;
}

bool HostPort::State::AnotherWaits(const Worker& worker) const {
  return std::any_of(worker.order.begin(), worker.order.end(), [&](uint32_t slot) {
    const uint64_t found = view.Ticket(slot);
    return found != worker.seen[slot] && bh_ticket_generation(found) == options.generation &&
           found != claims[slot].load(std::memory_order_relaxed);
  });
}

void HostPort::State::PassWakeOn(uint32_t from) {
  for (uint32_t w = 0; w < options.workers; ++w) {
    if (w != from && WakeWorker(w)) return;
  }
}

HostPort::HostPort(std::unique_ptr<State> state) : state_(std::move(state)) {}
HostPort::~HostPort() = default;

absl::StatusOr<std::unique_ptr<HostPort>> HostPort::Attach(MappedChannel channel,
                                                           const HostPortOptions& options) {
  if (options.generation == 0) {
    return absl::InvalidArgumentError("generation 0: generations count from 1");
  }
  if (options.workers < 1 || options.workers > BH_WORKERS_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.workers, " workers: must be 1 to ", BH_WORKERS_MAX));
  }
  HostView view(std::move(channel.call), std::move(channel.reply), channel.geometry);
  return std::unique_ptr<HostPort>(new HostPort(std::make_unique<State>(
      std::move(view), channel.geometry, std::move(channel.transport), options)));
}

absl::StatusOr<std::unique_ptr<HostPort>> HostPort::Attach(UniqueFd call_region,
                                                           UniqueFd reply_region,
                                                           UniqueFd descriptor_socket,
                                                           const HostPortOptions& options) {
  absl::StatusOr<MappedChannel> channel = MapSealedChannel(
      {std::move(call_region), std::move(reply_region), std::move(descriptor_socket)},
      options.generation);
  if (!channel.ok()) return channel.status();
  return Attach(*std::move(channel), options);
}

bool HostPort::Bind(uint32_t worker) {
  State& state = *state_;
  BULKHEAD_CHECK(worker < state.options.workers);
  // Each lane needs a worker of its own, and a lane has its CPU's number only while there are as
  // many as CPUs.
  if (state.options.workers < state.geometry.lanes || worker >= state.geometry.lanes ||
      sysconf(_SC_NPROCESSORS_CONF) > static_cast<long>(state.geometry.lanes)) {
    return false;
  }
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(worker, &cpus);
  if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0) return false;
  state.workers[worker].sleep = BH_SLEEPS_BOUND;
  return true;
}

std::optional<TakenCall> HostPort::Take(uint32_t worker, uint64_t until_ns) {
  State& state = *state_;
  BULKHEAD_CHECK(worker < state.options.workers);
  State::Worker& mine = state.workers[worker];
  std::optional<TakenCall> taken(std::in_place);
  TakenCall& call = *taken;
  const uint64_t now = Ticks();
  const bool was_long_away = now - std::exchange(mine.came, now) > kTicksPerSlot * state.slots;
  for (;;) {
    if (state.stopping() ||
        ((!was_long_away || !state.TakeInTurn(mine, &call.slot, &call.ticket)) &&
         !state.Poll(mine, &call.slot, &call.ticket) &&
         !state.Scan(mine, &call.slot, &call.ticket) &&
         !state.PollClosely(worker, &call.slot, &call.ticket) &&
         !state.Wait(worker, until_ns, &call.slot, &call.ticket))) {
      taken.reset();
      return taken;
    }
    if (mine.recent[0] != call.slot) {
      auto found = std::find(mine.recent.begin(), mine.recent.end() - 1, call.slot);
      std::rotate(mine.recent.begin(), found, found + 1);
      mine.recent[0] = call.slot;
    }
    const CallLine line = state.view.CopyCall(call.slot);
    if ((line.flags & BH_CALL_HAS_PAYLOAD) != 0) {
      state.view.PrefetchPayload(call.slot, state.call_pool_bytes);
    }
    call.callback = line.callback;
    call.args_bytes = line.args_bytes;
    call.flags = line.flags;
    call.descriptor_waits = (line.flags & BH_CALL_HAS_DESCRIPTOR) != 0;
    if (line.args_bytes > BH_ARGS_BYTES_MAX) {
      mine.malformed.fetch_add(1, std::memory_order_relaxed);
      Decline(call);
      continue;
    }
    state.view.CopyArguments(call.slot, call.args);
    if (line.args_bytes < BH_INLINE_BYTES) {
      std::memset(call.args + line.args_bytes, 0, BH_INLINE_BYTES - line.args_bytes);
    } else if (line.args_bytes > BH_INLINE_BYTES) {
      state.view.CopyMoreArguments(call.slot, call.args + BH_INLINE_BYTES);
      std::memset(call.args + line.args_bytes, 0, BH_ARGS_BYTES_MAX - line.args_bytes);
    }
    return taken;
  }
}

void HostPort::BeginDriver(const TakenCall& call) {
  state_->view.StoreBegun(call.slot, call.ticket);
}

absl::StatusOr<CallDetails> HostPort::Details(const TakenCall& call) const {
  const State& state = *state_;
  const CallSecondLine line = state.view.CopySecondLine(call.slot);
  CallDetails details;
  details.call_id = line.call_id;
  details.deadline_ns = line.deadline_ns;
  details.attempt = line.attempt;
  if ((call.flags & BH_CALL_HAS_PAYLOAD) != 0) {
    if (!Inside(line.payload_offset, line.payload_bytes, state.call_pool_bytes)) {
      return absl::InvalidArgumentError("the call's payload lies outside the call pool");
    }
    details.payload = {state.view.call_pool() + line.payload_offset, line.payload_bytes};
  }
  if (line.reply_capacity != 0) {
    if (!Inside(line.reply_offset, line.reply_capacity, state.reply_pool_bytes)) {
      return absl::InvalidArgumentError("the room lent for the answer lies outside the reply pool");
    }
    details.reply_room = {state.view.reply_pool() + line.reply_offset, line.reply_capacity};
  }
  return details;
}

absl::StatusOr<UniqueFd> HostPort::ReceiveDescriptor(TakenCall& call) {
  if (!call.descriptor_waits) {
    return absl::FailedPreconditionError("the call carries no file, or it was received already");
  }
  call.descriptor_waits = false;
  return state_->transport->ReceiveFile(call.slot, call.ticket);
}

void HostPort::Reply(TakenCall& call, uint32_t status, absl::Span<const uint8_t> reply,
                     uint64_t reply_payload_bytes) {
  BULKHEAD_CHECK(reply.size() <= BH_INLINE_BYTES);
  State& state = *state_;
  State::Replies& replies = state.replies[call.slot];
  // A file that the driver did not fetch is taken out of the socket too: there it would take the
  // room of the files to come.
  if (call.descriptor_waits) (void)ReceiveDescriptor(call);

  if (replies.payload_bytes.load(std::memory_order_relaxed) != reply_payload_bytes) {
    replies.payload_bytes.store(reply_payload_bytes, std::memory_order_relaxed);
    state.view.StoreReplyPayloadBytes(call.slot, reply_payload_bytes);
  }
  // SUBTLE: counted before the ticket is stored. Behind it the slot may have its next call, and
  // another thread that counts. Nothing else depends on the counts: relaxed.
  replies.calls.store(replies.calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  state.view.StoreReply(call.slot, call.ticket, status, reply.data(), reply.size());
  // The caller announces, fences, and looks for the ticket; we store it, fence, and look for the
  // announcement. One of the two sees the other.
  bh_fence();
  if (state.view.CallerSleeps(call.slot)) {
    uint32_t* bell = state.view.Bell(call.slot);
    bh_add_fetch(bell, 1u);
    state.transport->WakeCaller(call.slot, bell);
    replies.bells.fetch_add(1, std::memory_order_relaxed);
  }
}

absl::StatusOr<std::unique_ptr<NotificationReader>> HostPort::OpenNotifications(UniqueFd region) {
  return NotificationReader::Attach(std::move(region), state_->view.NotificationWords(),
                                    state_->transport.get());
}

void HostPort::StopTaking() {
  state_->stop.store(true, std::memory_order_relaxed);
  bh_fence();
  // Whatever the words say: a shim that died may have taken an announcement without waking.
  for (uint32_t w = 0; w < state_->options.workers; ++w) {
    uint32_t* word = state_->view.SleepWord(w);
    bh_exchange(word, 0u);
    state_->transport->WakeWorker(w, word);
  }
}

const bh_geometry& HostPort::geometry() const { return state_->geometry; }

HostPort::Counters HostPort::counters() const {
  Counters sum;
  for (const State::Worker& worker : state_->workers) {
    sum.sleeps += worker.sleeps.load(std::memory_order_relaxed);
    sum.malformed += worker.malformed.load(std::memory_order_relaxed);
  }
  for (const State::Replies& slot : state_->replies) {
    sum.calls += slot.calls.load(std::memory_order_relaxed);
    sum.bells += slot.bells.load(std::memory_order_relaxed);
  }
  sum.stray_descriptors = state_->transport->stray_files();
  return sum;
}

}  // namespace bulkhead
