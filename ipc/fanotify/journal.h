// SPDX-License-Identifier: Apache-2.0
//
// The journal: every event that the kernel gave to the shim and still waits for, in shared memory
// that outlives the process that read it.
//
//   supervisor   makes the memory and keeps it; answers the remaining events when no shim process
//                lives
//   keeper       maps it; writes nothing but `incarnation`
//   worker       the only writer of everything else; the next worker continues where it stopped
//
// A record's states, and the effect of a kill at each point:
//
//   free ----> reading ----> taken ----> answered ----> free
//
//   free -> reading     the reader zeroes metadata and taken_ns first, then stores the state
//   in reading          read(2) puts the event's metadata straight into the record. The kernel
//                       finishes its copy before a kill takes effect, so a record in this state
//                       holds either zeroes (no event: free it) or a whole event (take it over;
//                       taken_ns, when still 0, is now)
//   reading -> taken    the reader stores taken_ns, then the state. Killed here: the next worker
//                       makes the call again, with the deadline that taken_ns gives
//   taken -> answered   the response was written to the group. Killed before the state is stored:
//                       the next worker makes the call again and its response fails with ENOENT,
//                       which is harmless, because the descriptor is still open and its number
//                       can't belong to another event
//   answered -> free    the event's descriptor is closed. Killed in between: the next worker closes
//                       the descriptors that belong to no unanswered record and no keeper, then
//                       frees the record. Those of slow groups are closed later, by a Closer: one
//                       that is left is taken for an event that the journal does not know, and its
//                       response fails with ENOENT
//
// The event's descriptor is in a descriptor table that keeper and workers share, so it survives the
// worker, and its number can't be used again while it is open.
#ifndef BULKHEAD_IPC_FANOTIFY_JOURNAL_H_
#define BULKHEAD_IPC_FANOTIFY_JOURNAL_H_

#include <sys/fanotify.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ipc/abi/channel.h"
#include "ipc/abi/generation.h"
#include "ipc/abi/policy.h"

namespace bulkhead {

enum class RecordState : uint32_t { kFree = 0, kReading = 1, kTaken = 2, kAnswered = 3 };

struct JournalRecord {
  fanotify_event_metadata metadata;  // by the kernel, through read(2)
  uint64_t taken_ns;                 // by the reader; CLOCK_MONOTONIC
  std::atomic<RecordState> state;    // by the thread that moves the record, last
  uint32_t group;  // by the reader, before it reads: the event's, below kGuardGroups
  uint32_t reserved[6];
};
static_assert(sizeof(fanotify_event_metadata) == FAN_EVENT_METADATA_LEN);
static_assert(sizeof(JournalRecord) == 64);
static_assert(std::atomic<RecordState>::is_always_lock_free);

// The last state of a channel. The worker writes it before it acts on it, so that the next worker
// continues with it without waiting for the supervisor.
struct ChannelState {
  bh_policy policy;
  uint32_t generation;  // the active one; 0: none
  uint32_t quarantined;
  uint32_t draining;
  uint32_t reserved;
  bh_generation_spec wanted;  // of the last generation; before the first: of everything
};

// Two copies; `current` is the index of the valid one. A kill while the other is being written
// changes nothing.
struct ChannelStatePair {
  std::atomic<uint32_t> current;
  uint32_t reserved;
  ChannelState copy[2];
};

// Counts across all takeovers; the supervisor may read them at any time.
struct JournalCounters {
  std::atomic<uint64_t> events;         // that the kernel waited for
  std::atomic<uint64_t> excluded;       // of those, allowed at once: by a process of Bulkhead
  std::atomic<uint64_t> allowed;        // after a call
  std::atomic<uint64_t> denied;         // after a call
  std::atomic<uint64_t> adopted;        // taken over from a worker that died
  std::atomic<uint64_t> full;           // answered by the policy for a full queue
  std::atomic<uint64_t> crowded;        // by that for a user with its share of the queue
  std::atomic<uint64_t> replayed;       // answered by the supervisor, by policy: no shim was
                                        // running
  std::atomic<uint64_t> let_through;    // of these three, and of calls cut off by the end of a
                                        // worker: allowed, by policy
  std::atomic<uint64_t> late;           // answered more than kLateAfterNs past the deadline
  std::atomic<uint64_t> answer_ns_max;  // longest time from taken to answered
  std::atomic<uint64_t> read_errors;    // events that the kernel could not deliver (and denied)
  std::atomic<uint64_t> read_errno;     // of the last of these
};

// Guards of one deadline and one mode share two fanotify groups: the group that an event came from
// gives its deadline, and whether it is audited. An object that several guards cover causes an
// event in the groups of each, and is open when none denies. One is for files that the kernel opens
// by itself, the other for those whose file system may let an open wait (FUSE, NFS): the kernel
// opens a file while its event is read.
//
// So many pairs of groups there are, and so many of them are in force at rest: those that guards
// change to are marked while those that they change from still are. A user has 128 groups.
inline constexpr uint32_t kGuardDeadlines = 6;
inline constexpr uint32_t kDeadlinesInForceMax = 4;
inline constexpr uint32_t kGuardGroups = 2 * kGuardDeadlines;
enum class GroupKind : uint32_t { kLocal, kSlow };
constexpr uint32_t GroupOf(uint32_t deadline, GroupKind kind) {
  return 2 * deadline + static_cast<uint32_t>(kind);
}
// Also of an event whose group is not known.
constexpr bool IsSlow(uint32_t group) { return group >= kGuardGroups || group % 2 != 0; }
inline constexpr uint32_t kUnknownGroup = UINT32_MAX;  // of an event that the journal did not know

inline constexpr uint64_t kLateAfterNs = 100'000'000;
inline constexpr uint32_t kJournalMagic = 0x33464842;  // "BHF3"
inline constexpr uint32_t kReadersMax = 8;             // of local groups
inline constexpr uint32_t kSlowReaders = 8;  // of slow groups: so many opens may wait at a time
inline constexpr uint32_t kInFlightMax = 4096;
// One record for each call in flight, one for each reader to read into, and as many for the records
// that the readers of a dead worker had filled.
inline constexpr uint32_t kJournalRecords = kInFlightMax + 2 * (kReadersMax + kSlowReaders);

struct Journal {
  uint32_t magic;                        // by the supervisor
  std::atomic<uint32_t> incarnation;     // by the keeper: of the newest worker
  std::atomic<uint32_t> ready;           // by the worker: incarnation that has begun to serve
  std::atomic<uint32_t> deadlines_used;  // by the supervisor: the first so many, two groups each
  std::atomic<uint64_t> group_deadline_ns[kGuardGroups];  // by the supervisor, before a group's use
  // By the supervisor, at any time; counts for events that are taken afterwards.
  std::atomic<uint32_t> group_audited[kGuardGroups];
  // By the supervisor: bits, of those that have the marks of the guards. Guards change with one
  // store: marks in the groups of others are those of a change that has not ended, or of one that
  // was cut off.
  std::atomic<uint32_t> deadlines_in_force;
  JournalCounters counters;
  ChannelStatePair channels[BH_CHANNELS_MAX];
  alignas(64) JournalRecord records[kJournalRecords];
};

inline constexpr size_t kJournalBytes = (sizeof(Journal) + 4095) / 4096 * 4096;

// True when the record holds an event that has not been answered.
inline bool IsUnanswered(const JournalRecord& record) {
  switch (record.state.load(std::memory_order_acquire)) {
    case RecordState::kReading:
      return record.metadata.event_len != 0 && record.metadata.fd >= 0;
    case RecordState::kTaken:
      return record.metadata.fd >= 0;
    case RecordState::kFree:
    case RecordState::kAnswered:
      return false;
  }
  return false;
}

// The callback that an event stands for.
inline uint32_t CallbackOf(const fanotify_event_metadata& event) {
  if ((event.mask & FAN_OPEN_EXEC_PERM) != 0) return BH_CALLBACK_FILE_EXEC;
  if ((event.mask & FAN_ACCESS_PERM) != 0) return BH_CALLBACK_FILE_ACCESS;
  return BH_CALLBACK_FILE_OPEN;
}

// The policy's verdict when no driver can be asked any more: deny when the rule denies, at once or
// as its fallback, and the driver is not audited.
bool PolicyAllows(const bh_policy& policy, uint32_t callback, bh_reason reason);

void StoreChannelState(ChannelStatePair& pair, const ChannelState& state);
ChannelState LoadChannelState(const ChannelStatePair& pair);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_FANOTIFY_JOURNAL_H_
