// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/hostile_peer_unsafe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "ipc/abi/atomics.h"
#include "ipc/abi/channel.h"
#include "ipc/abi/notification.h"
#include "ipc/futex.h"
#include "ipc/host_port.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr int kAttachFailed = 3;
constexpr uint64_t kLookNs = 5 * kNanosecondsPerMillisecond;
constexpr size_t kRemembered = 64;

UniqueFd Copy(const UniqueFd& fd) {
  absl::StatusOr<UniqueFd> copy = fd.Duplicate();
  return copy.ok() ? *std::move(copy) : UniqueFd();
}

// One thread, in a process of its own. The process that it forked from has threads, so it takes
// none of their locks except malloc's, which fork() hands over.
class Peer {
 public:
  Peer(ChannelDescriptors regions, UniqueFd files, uint32_t generation, const bh_geometry& geometry,
       uint64_t seed)
      : regions_(std::move(regions)),
        files_(std::move(files)),
        generation_(generation),
        geometry_(geometry),
        random_(seed) {
    void* reply = mmap(nullptr, bh_reply_region_bytes(&geometry_), PROT_READ | PROT_WRITE,
                       MAP_SHARED, regions_.reply_region.get(), 0);
    const void* calls = mmap(nullptr, bh_call_region_bytes(&geometry_), PROT_READ, MAP_SHARED,
                             regions_.call_region.get(), 0);
    if (reply == MAP_FAILED || calls == MAP_FAILED) _exit(kAttachFailed);
    reply_ = static_cast<std::byte*>(reply);
    calls_ = static_cast<const std::byte*>(calls);
  }

  [[noreturn]] void Be(Hostility hostility) {
    for (;;) {
      switch (hostility) {
        case Hostility::kScribble:
          Scribble();
          break;
        case Hostility::kScribbleBells:
          Scribble();
          RingBells();
          break;
        case Hostility::kAnswerTwice:
          if (auto call = Take()) {
            Answer(*call);
            Store(call->slot, call->ticket, BH_REPLY_DONE, sizeof(bh_verdict_reply),
                  {BH_VERDICT_DENY, BH_CACHE_OBJECT});
          }
          break;
        case Hostility::kReplay:
          Replay();
          break;
        case Hostility::kSilent:
          if (auto call = Take()) Port().BeginDriver(*call);
          break;
        case Hostility::kReopen:
          for (int calls = 0; calls < 8; ++calls) {
            if (auto call = Take()) Answer(*call);
          }
          port_.reset();
          break;
        case Hostility::kGarbage:
          Garbage();
          break;
        case Hostility::kMutate:
          Mutate();
          break;
      }
    }
  }

 private:
  HostPort& Port() {
    if (!port_) {
      auto port =
          HostPort::Attach(Copy(regions_.call_region), Copy(regions_.reply_region), Copy(files_),
                           {.generation = generation_, .workers = 1, .spin_ns = 0});
      if (!port.ok()) _exit(kAttachFailed);
      port_ = *std::move(port);
    }
    return *port_;
  }
  std::optional<TakenCall> Take() { return Port().Take(0, MonotonicAfterNs(kLookNs)); }
  void Answer(TakenCall& call) {
    const bh_verdict_reply reply = {BH_VERDICT_ALLOW, BH_CACHE_NOT};
    Port().Reply(call, BH_REPLY_DONE, {reinterpret_cast<const uint8_t*>(&reply), sizeof(reply)});
  }

  bh_reply_slot* Slot(uint32_t slot) {
    return reinterpret_cast<bh_reply_slot*>(reply_ + bh_reply_slot_offset(slot));
  }
  void Store(uint32_t slot, uint64_t ticket, uint32_t status, uint16_t bytes,
             bh_verdict_reply reply) {
    bh_reply_slot* shared = Slot(slot);
    bh_store_relaxed(&shared->status, status);
    bh_store_relaxed(&shared->reply_bytes, bytes);
    auto* words = reinterpret_cast<uint32_t*>(shared->reply);
    bh_store_relaxed(&words[0], reply.verdict);
    bh_store_relaxed(&words[1], reply.cacheability | static_cast<uint32_t>(reply.error) << 16);
    bh_store_release(&shared->ticket, ticket);
    Ring(slot);
  }
  void Ring(uint32_t slot) {
    bh_reply_slot* shared = Slot(slot);
    bh_store_relaxed(&shared->bell, bh_load_relaxed(&shared->bell) + 1);
    FutexWake(&shared->bell, FutexScope::kShared, kFutexWakeAll);
  }

  void Scribble() {
    const size_t words = bh_reply_region_bytes(&geometry_) / sizeof(uint64_t);
    auto* at = reinterpret_cast<uint64_t*>(reply_);
    for (size_t i = 0; i < words; ++i) bh_store_relaxed(&at[i], random_());
  }
  void RingBells() {
    for (uint32_t slot = 0; slot < bh_slot_count(&geometry_); ++slot) Ring(slot);
  }

  // Tickets of earlier calls, of this generation and of others, in matching and other slots.
  void Replay() {
    auto call = Take();
    if (!call) return;
    seen_[next_++ % kRemembered] = call->ticket;
    for (uint32_t slot = 0; slot < bh_slot_count(&geometry_); ++slot) {
      uint64_t ticket = seen_[random_() % kRemembered];
      if (random_() % 4 == 0 && ticket != BH_TICKET_NONE) {
        ticket = bh_ticket_make(generation_ - 1, static_cast<uint32_t>(ticket));
      }
      if (slot != call->slot) {
        Store(slot, ticket, BH_REPLY_DONE, sizeof(bh_verdict_reply),
              {BH_VERDICT_DENY, BH_CACHE_OBJECT});
      }
    }
    Answer(*call);
  }

  // Mostly valid answers; now and then one of the violations that a shim must detect.
  void Garbage() {
    auto call = Take();
    if (!call) return;
    constexpr uint16_t kBytes = sizeof(bh_verdict_reply);
    switch (random_() % 64) {
      case 4:
        Store(call->slot, call->ticket, BH_REPLY_DONE, kBytes,
              {BH_VERDICT_DENY, BH_CACHE_NOT, 512});
        break;
      case 0:
        Store(call->slot, call->ticket, static_cast<uint32_t>(random_()) | 4, kBytes,
              {BH_VERDICT_ALLOW, BH_CACHE_NOT});
        break;
      case 1:
        Store(call->slot, call->ticket, BH_REPLY_DONE, UINT16_MAX, {BH_VERDICT_ALLOW, 0});
        break;
      case 2:
        Store(call->slot, call->ticket, BH_REPLY_DONE, kBytes, {0, BH_CACHE_NOT});
        break;
      case 3:
        Store(call->slot, call->ticket, BH_REPLY_DONE, kBytes, {BH_VERDICT_ALLOW, 2});
        break;
      default:
        Answer(*call);
    }
  }

  // Writes to all of the region: the sleep words, the words of the reader of notifications, the
  // reply slots with their bells and with what was begun, the pool.
  void Mutate() {
    const uint64_t random = random_();
    const auto slot = static_cast<uint32_t>(random >> 32) % bh_slot_count(&geometry_);
    switch (random % 16) {
      case 0:
        Ring(slot);
        break;
      case 1:
        Store(slot, Ticket(slot), NearlyAlways(BH_REPLY_DONE),
              static_cast<uint16_t>(NearlyAlways(sizeof(bh_verdict_reply))),
              {NearlyAlways(random & 16 ? BH_VERDICT_ALLOW : BH_VERDICT_DENY),
               static_cast<uint16_t>(NearlyAlways(random & 32 ? BH_CACHE_NOT : BH_CACHE_OBJECT)),
               static_cast<uint16_t>(NearlyAlways(0))});
        break;
      case 2:
        StoreWord(random_(), Ticket(slot));
        break;
      case 3:
        // What was begun and what was not: now, before, or in calls to come.
        bh_store_release(&Slot(slot)->begun, Ticket(slot) + random % 128 / 32 - 1);
        break;
      case 4:  // a little less or more than before
        bh_store_relaxed(&Reader()->read, bh_load_relaxed(&Reader()->read) + random % 512 - 256);
        break;
      case 5:
        StoreWord(random_(), random_() % 4);
        break;
      default:
        StoreWord(random_(), random_());
    }
  }
  uint64_t Ticket(uint32_t slot) const {
    return bh_load_relaxed(
        &reinterpret_cast<const bh_call_slot*>(calls_ + bh_call_slot_offset(slot))->ticket);
  }
  uint32_t NearlyAlways(uint32_t value) {
    const uint64_t random = random_();
    return random % 1024 == 0 ? static_cast<uint32_t>(random >> 32) : value;
  }
  void StoreWord(uint64_t where, uint64_t value) {
    const size_t words = bh_reply_region_bytes(&geometry_) / sizeof(uint64_t);
    bh_store_relaxed(&reinterpret_cast<uint64_t*>(reply_)[where % words], value);
  }
  bh_notification_reader* Reader() {
    return reinterpret_cast<bh_notification_reader*>(reply_ + BH_NOTIFICATION_READER_OFFSET);
  }

  ChannelDescriptors regions_;
  UniqueFd files_;
  const uint32_t generation_;
  const bh_geometry geometry_;
  std::mt19937_64 random_;
  std::byte* reply_ = nullptr;
  const std::byte* calls_ = nullptr;
  std::unique_ptr<HostPort> port_;
  std::array<uint64_t, kRemembered> seen_ = {};
  size_t next_ = 0;
};

}  // namespace

const char* Name(Hostility hostility) {
  constexpr const char* kNames[] = {
      "scribble", "scribble and ring", "answer twice", "replay", "silent",
      "reopen",   "garbage",           "mutate"};
  return kNames[static_cast<size_t>(hostility)];
}

absl::StatusOr<HostilePeer> HostilePeer::Start(ChannelDescriptors regions, uint32_t generation,
                                               const bh_geometry& geometry, Hostility hostility,
                                               uint64_t seed, UniqueFd* shim_files) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  shim_files->reset(ends[0]);
  UniqueFd host_files(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    shim_files->reset();
    Peer(std::move(regions), std::move(host_files), generation, geometry, seed).Be(hostility);
  }
  return HostilePeer(pid);
}

HostilePeer::~HostilePeer() { End(); }

bool HostilePeer::End() {
  if (pid_ <= 0) return true;
  kill(pid_, SIGKILL);
  int status = -1;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

}  // namespace bulkhead
