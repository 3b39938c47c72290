// SPDX-License-Identifier: Apache-2.0
//
// FanotifyAttachment: the supervisor's object to guard directories through fanotify.
//
//   absl::StatusOr<std::unique_ptr<FanotifyAttachment>> attachment =
//   FanotifyAttachment::Create({});
//   ... give (*attachment)->link() to the supervisor, which adds channels and starts hosts ...
//   (*attachment)->Guard({.folder = "/srv/incoming"});   // once hosts serve; before that, opens
//                                                        // wait as policy says
//
// It owns the fanotify groups (two for each deadline and mode that guards have, and some to change
// to) and their marks, the
// journal and the exclusion table, and starts the shim: a keeper, which starts workers. The keeper
// replaces a worker that dies (the observer gets OnTakeover). When the whole shim has died, the
// attachment answers the events in the journal by policy, starts the next keeper, makes the same
// channels there and calls the observer's OnShimLost: hosts from before must be ended and started
// again. As long as no keeper can be started, the marks are removed and waiting events are answered
// by policy: the machine continues without the guards, which are set again with the first keeper
// that starts.
//
// This process, the keeper and its workers are excluded; hosts are excluded by the code that starts
// them (ShimLink::Exclude).
//
// Threads: every function from any thread.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_ATTACHMENT_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_ATTACHMENT_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/attachment.h"
#include "host/attachment/fanotify/fanotify_group.h"
#include "host/attachment/fanotify/keeper_process.h"
#include "host/attachment/fanotify/place_guard.h"
#include "host/attachment/fanotify/remote_shim_link.h"
#include "ipc/let_through_watch.h"
#include "ipc/mutex.h"
#include "ipc/shared_memory.h"
#include "ipc/shim_link.h"

namespace bulkhead {

struct Journal;

extern const AttachmentKind kFanotifyAttachment;

class FanotifyAttachment final : public Attachment {
 public:
  struct Options {
    std::string shim_program;       // empty: bulkhead-shim-fanotify beside this program
    uint32_t readers = 0;           // 0: one for each CPU online, 2 .. 8
    uint32_t in_flight_max = 4096;  // events beyond it are answered by the policy for "full"
    // As in AttachmentOptions.
    std::function<void(const std::string&)> log;
    std::function<void(const GuardProtection&)> on_protection;
    absl::Span<const AttachmentLimit> limits;
    std::set<std::string> accepted;
    std::shared_ptr<DescriptorStore> store;
    std::string shim_group;
  };

  // Counts since the attachment was made, across all deaths of the shim.
  struct Counters {
    uint64_t events = 0;         // that a process waited for
    uint64_t excluded = 0;       // allowed at once: by a process of Bulkhead
    uint64_t allowed = 0;        // after a call
    uint64_t denied = 0;         // after a call
    uint64_t adopted = 0;        // taken over from a worker that died
    uint64_t full = 0;           // answered by the policy for "full" (also in allowed or denied)
    uint64_t crowded = 0;        // by the policy for "crowd" (also in allowed or denied)
    uint64_t replayed = 0;       // answered by policy because no shim was running
    uint64_t let_through = 0;    // of these three: allowed
    uint64_t late = 0;           // answered more than 100 ms past the deadline
    uint64_t answer_ns_max = 0;  // longest from taken to answered
    uint64_t read_errors = 0;    // the kernel could not deliver them, and denied them
    uint32_t incarnation = 0;    // workers so far
  };

  // Whether this machine supports it: as Create(), but leaves nothing behind. For `bulkhead
  // doctor`.
  static absl::Status Probe();

  static absl::StatusOr<std::unique_ptr<FanotifyAttachment>> Create(const Options& options);
  ~FanotifyAttachment() override;  // Stop()

  ShimLink* link() override { return link_.get(); }

  // ResourceExhausted: the guards have more deadlines and modes than there are groups. Where guards
  // of different ones overlap, each is asked about an access.
  absl::StatusOr<MarkKind> Guard(const GuardSpec& guard) override;
  // A mark can't be taken from a group alone where guards overlap: what stays as it is in the
  // groups of a guard that goes or changes is set anew in others first. While it is set in both, an
  // access is asked about twice, and denied where one of the two denies. ResourceExhausted also
  // when guards of too many deadlines and modes change at once.
  absl::Status Reguard(const std::vector<GuardSpec>& guards) override;
  void Accept(const std::set<std::string>& limits) override { limits_.Accept(limits); }
  absl::Status Settle() override;
  std::vector<GuardProtection> Protections() override;
  // The shim continues to run.
  void RemoveGuards() override;

  // Removes the guards and ends the shim; waiting events are answered by policy. Leaves nothing
  // behind.
  void Stop() override;

  Counters counters() const;
  std::vector<uint64_t> CounterValues() override;
  ShimProcess shim_process() override;
  pid_t keeper_pid() const { return keeper_pid_.load(); }
  pid_t worker_pid() const { return link_->worker_pid(); }  // 0: none yet
  uint64_t guarded_directories() const;                     // by marks of kind directory

 private:
  explicit FanotifyAttachment(const Options& options)
      : options_(options), limits_(options.limits, options.accepted) {}

  struct Guarded {
    GuardSpec spec;
    DeadlineGroups groups;
    uint32_t deadline = 0;               // whose groups these are
    std::unique_ptr<PlaceGuard> folder;  // null: it could not be set (again)
    std::string trouble;                 // why
    uint64_t losses = 0;                 // of folders before this one
    bool told_overdue = false;
  };

  // Groups, journal, exclusions and link: of a service before this one, or new.
  absl::Status GoOn(DescriptorStore::Item left);
  absl::Status Make();
  std::unique_ptr<RemoteShimLink> NewLink(ExclusionTable* exclusions);
  void Keep() const;
  void EnterGroup(pid_t pid) const;
  absl::Status StartKeeper();
  void Watch();
  // Waits until the shim is gone. False: the attachment stops.
  bool AwaitLoss();
  void Recover();
  absl::Status StartAgain(bool was_running);
  void CountReplayed(bool allowed);
  void AnswerByPolicy();
  void AnswerWaiting(GroupKind kind);
  // Whose groups are for guards of this deadline and mode, of `among` (bits).
  std::optional<uint32_t> TakenFor(const GuardSpec& guard, uint32_t among) const;
  // One of `taken`, or else a free one, which is prepared and added to `taken`. Of `taken`, those
  // of `in_force` are not changed.
  absl::StatusOr<uint32_t> DeadlineFor(const GuardSpec& guard, uint32_t& taken, uint32_t in_force);
  // The events of its groups were all read: none waits there that came with a deadline and a mode
  // of before.
  bool IsIdle(uint32_t deadline) const;
  // Guards are set there that are not `but`.
  bool HasOthers(uint32_t deadline, const Guarded* but) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(guards_mutex_);
  void SetAudited(uint32_t deadline, bool audited);
  void RemoveMarks(uint32_t deadlines);  // bits
  // Of these, and no other, are the guards.
  void PutInForce(uint32_t deadlines);
  Guarded* Find(const std::string& folder) ABSL_EXCLUSIVE_LOCKS_REQUIRED(guards_mutex_);
  // Only the mode of a guard that is alone with its deadline changes: false, if more does.
  bool ChangeModeInPlace(const std::vector<GuardSpec>& guards)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(guards_mutex_);
  absl::Status Change(const std::vector<GuardSpec>& guards)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(guards_mutex_);
  DeadlineGroups GroupsOf(uint32_t deadline);
  bool IsAudited(uint32_t group) const;
  void LetGo(const std::string& why);
  bool HasUnset() const;
  void SetAgain();
  absl::StatusOr<std::unique_ptr<PlaceGuard>> Set(const Guarded& guarded);
  GuardProtection ProtectionOf(const Guarded& guarded) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(guards_mutex_);
  void Log(const std::string& text) const;
  Journal* journal() const;

  Options options_;
  Limits limits_;
  LetThroughWatch let_through_ ABSL_GUARDED_BY(guards_mutex_);
  LetThroughWatch::Seen let_through_seen_ ABSL_GUARDED_BY(guards_mutex_);
  uint64_t read_errors_told_ ABSL_GUARDED_BY(guards_mutex_) = 0;
  uint64_t read_errors_again_ns_ ABSL_GUARDED_BY(guards_mutex_) = 0;
  std::vector<FanotifyGroup> groups_;  // kGuardGroups of them
  SharedMemory journal_memory_;
  SharedMemory exclusions_memory_;
  std::unique_ptr<RemoteShimLink> link_;
  KeeperProcess keeper_;  // owned by the watcher while it runs
  std::atomic<pid_t> keeper_pid_{0};
  UniqueFd wake_;  // the link lost the shim, or the attachment stops
  std::atomic<bool> lost_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> recovers_{false};  // from the loss until accesses are answered again

  mutable Mutex guards_mutex_;  // of the groups' deadlines too
  GuardedPlaces places_;
  std::vector<Guarded> guards_ ABSL_GUARDED_BY(guards_mutex_);
  // Bits: in their groups are marks of no guard, of a change that failed.
  uint32_t stale_ ABSL_GUARDED_BY(guards_mutex_) = 0;
  std::thread watcher_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_FANOTIFY_ATTACHMENT_H_
