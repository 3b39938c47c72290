// SPDX-License-Identifier: Apache-2.0
//
// PlaceGuard: the guard of one place through fanotify. Marks are on objects; this keeps them on
// the objects that are at the place: at least once a second, and at each change of mounts and each
// move of the folder, it compares the place with what is marked, asks the kernel whether the mark
// is still there, and marks again what is not.
//
// Threads: every function from any thread. A thread of its own watches.
#ifndef BULKHEAD_HOST_ATTACHMENT_FANOTIFY_PLACE_GUARD_H_
#define BULKHEAD_HOST_ATTACHMENT_FANOTIFY_PLACE_GUARD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/attachment.h"
#include "host/attachment/fanotify/fanotify_group.h"
#include "host/attachment/fanotify/mount_table.h"
#include "host/attachment/fanotify/tree_marks.h"
#include "host/attachment/guard_spec.h"
#include "host/attachment/place.h"
#include "host/attachment/protection.h"
#include "ipc/mutex.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

// The groups of one deadline. Not owned.
struct DeadlineGroups {
  FanotifyGroup* local = nullptr;
  FanotifyGroup* slow = nullptr;  // of file systems whose opens may wait
};

// The places of an attachment's guards. Thread-safe.
class GuardedPlaces {
 public:
  void Add(const std::string& place) {
    const MutexLock lock(mutex_);
    places_.insert(place);
  }
  void Remove(const std::string& place) {
    const MutexLock lock(mutex_);
    places_.erase(places_.find(place));
  }
  bool Has(const std::string& place) const {
    const MutexLock lock(mutex_);
    return places_.count(place) != 0;
  }

 private:
  mutable Mutex mutex_;
  std::multiset<std::string> places_ ABSL_GUARDED_BY(mutex_);
};

class PlaceGuard {
 public:
  // `groups` and `places` are not owned and outlive this, which is in `places`. `log` is called
  // with lines for the operator; `on_protection` with the newest protection() when it has changed,
  // ten times a minute at most, and not before Create has returned.
  static absl::StatusOr<std::unique_ptr<PlaceGuard>> Create(
      const DeadlineGroups& groups, GuardedPlaces* places, const GuardSpec& guard,
      std::function<void(const std::string&)> log,
      std::function<void(const GuardProtection&)> on_protection);
  ~PlaceGuard();  // the marks stay

  MarkKind kind() const { return kind_.load(); }  // of the present marks; not kAuto
  // Degraded while the comparison is overdue: what it waits for (a file system that does not
  // answer, the walk of a large tree) may hide a loss.
  GuardProtection protection() const;
  bool overdue() const { return overdue_ns() > 0; }
  uint64_t directories() const;  // marked, of kind kDirectory

 private:
  static constexpr uint64_t kAgainNs = 1'000'000'000;
  static constexpr uint64_t kOverdueNs = 3'000'000'000;

  PlaceGuard(const DeadlineGroups& groups, GuardedPlaces* places, const GuardSpec& guard,
             std::function<void(const std::string&)> log,
             std::function<void(const GuardProtection&)> on_protection);

  // Marks what is at the place now.
  absl::Status Set();
  void Watch();
  uint64_t overdue_ns() const;  // since the last comparison; 0: in time
  void Check(bool look_at_mounts);
  bool IsMarked(int directory) const;
  std::vector<std::string> MountsBelow() const;
  void Tell();
  void Publish(bh_protection level, std::vector<std::string> reasons);

  const DeadlineGroups groups_;
  GuardedPlaces* const places_;
  const GuardSpec guard_;
  const std::function<void(const std::string&)> log_;
  const std::function<void(const GuardProtection&)> on_protection_;
  UniqueFd mounts_;  // /proc/self/mountinfo: exceptional when a mount changes
  UniqueFd stop_;
  std::atomic<MarkKind> kind_{MarkKind::kAuto};
  std::atomic<uint64_t> compared_ns_{0};

  // Of the thread that watches, once it runs.
  FanotifyGroup* group_ = nullptr;  // that has the marks
  DirectoryId marked_;              // what they are on
  DirectoryId failed_;              // what could not be marked, when not is_set_
  bool is_set_ = false;
  bool mark_again_ = false;
  uint64_t again_ns_ = 0;  // when what could not be marked is tried again
  uint64_t again_after_ns_ = kAgainNs;
  std::string trouble_;  // of the last MarkAll()
  std::vector<std::string> mounts_below_;
  GuardProtection told_;  // to on_protection_
  uint32_t tells_ = 0;    // in this minute
  uint64_t minute_ends_ns_ = 0;

  mutable Mutex mutex_;
  std::unique_ptr<TreeMarks> tree_ ABSL_GUARDED_BY(mutex_);
  GuardProtection protection_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_FANOTIFY_PLACE_GUARD_H_
