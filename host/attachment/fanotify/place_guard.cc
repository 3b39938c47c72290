// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/place_guard.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "host/attachment/place.h"
#include "ipc/log_limit.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

constexpr int kCheckMs = 1000;
constexpr int kCheckLostMs = 50;  // while nothing is guarded
constexpr uint64_t kAgainNsMax = 60 * kNanosecondsPerSecond;

// Of file systems in which the kernel alone makes files.
bool HoldsFiles(const MountEntry& mount) {
  constexpr std::string_view kNone[] = {
      "autofs", "binfmt_misc", "bpf",        "cgroup",    "cgroup2", "configfs", "debugfs",
      "devpts", "devtmpfs",    "efivarfs",   "fusectl",   "mqueue",  "nsfs",     "proc",
      "pstore", "rpc_pipefs",  "securityfs", "selinuxfs", "sysfs",   "tracefs"};
  return std::find(std::begin(kNone), std::end(kNone), mount.type) == std::end(kNone);
}

}  // namespace

PlaceGuard::PlaceGuard(const DeadlineGroups& groups, GuardedPlaces* places, const GuardSpec& guard,
                       std::function<void(const std::string&)> log,
                       std::function<void(const GuardProtection&)> on_protection)
    : groups_(groups),
      places_(places),
      guard_(guard),
      log_(std::move(log)),
      on_protection_(std::move(on_protection)) {
  protection_.folder = guard_.folder;
  places_->Add(guard_.folder);
}

absl::StatusOr<std::unique_ptr<PlaceGuard>> PlaceGuard::Create(
    const DeadlineGroups& groups, GuardedPlaces* places, const GuardSpec& guard,
    std::function<void(const std::string&)> log,
    std::function<void(const GuardProtection&)> on_protection) {
  absl::StatusOr<std::string> place = ResolvePlace(guard.folder);
  if (!place.ok()) return place.status();
  GuardSpec resolved = guard;
  resolved.folder = *std::move(place);

  std::unique_ptr<PlaceGuard> made(
      new PlaceGuard(groups, places, resolved, std::move(log), std::move(on_protection)));
  made->mounts_.reset(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!made->mounts_.valid()) return absl::ErrnoToStatus(errno, "/proc/self/mountinfo");
  made->stop_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made->stop_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  if (absl::Status status = made->Set(); !status.ok()) return status;
  made->Check(/*look_at_mounts=*/true);
  made->compared_ns_.store(MonotonicNowNs());
  made->told_ = {.folder = made->guard_.folder};  // full: what its maker expects
  made->thread_ = std::thread([guard = made.get()] { guard->Watch(); });
  return made;
}

PlaceGuard::~PlaceGuard() {
  if (thread_.joinable()) {
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }
  places_->Remove(guard_.folder);
}

uint64_t PlaceGuard::overdue_ns() const {
  const uint64_t age_ns = MonotonicNowNs() - compared_ns_.load();
  return age_ns > kOverdueNs ? age_ns : 0;
}

GuardProtection PlaceGuard::protection() const {
  GuardProtection now;
  {
    const MutexLock lock(mutex_);
    now = protection_;
  }
  const uint64_t age_ns = overdue_ns();
  if (age_ns == 0 || now.level == BH_PROTECTION_NONE) return now;
  now.level = BH_PROTECTION_DEGRADED;
  now.reasons.push_back(
      absl::StrCat("it was last compared with the kernel ", age_ns / kNanosecondsPerSecond,
                   " s ago: its file system does not answer, or its tree is very large"));
  return now;
}

uint64_t PlaceGuard::directories() const {
  const MutexLock lock(mutex_);
  return tree_ == nullptr ? 0 : tree_->directories();
}

bool PlaceGuard::IsMarked(int directory) const { return group_->HasMark(directory, kind_.load()); }

absl::Status PlaceGuard::Set() {
  absl::StatusOr<UniqueFd> directory = OpenPlace(guard_.folder);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<DirectoryId> id = IdOf(directory->get());
  if (!id.ok()) return id.status();
  group_ = OpensMayWait(directory->get()) ? groups_.slow : groups_.local;
  MarkKind kind = guard_.mark;
  if (kind == MarkKind::kAuto) {
    absl::StatusOr<MarkKind> chosen = ChooseMarkKind(directory->get(), guard_.folder);
    if (!chosen.ok()) return chosen.status();
    kind = *chosen;
  }
  if (kind != MarkKind::kDirectory) {
    absl::Status status = group_->Mark(directory->get(), kind, guard_.callbacks, guard_.folder);
    if (!status.ok()) return status;
    const MutexLock lock(mutex_);
    tree_.reset();
  } else {
    absl::StatusOr<std::unique_ptr<TreeMarks>> tree =
        TreeMarks::Create(group_, guard_.callbacks, guard_.folder, log_);
    if (!tree.ok()) return tree.status();
    if (absl::Status status = (*tree)->MarkAll(directory->get()); !status.ok()) return status;
    const MutexLock lock(mutex_);
    tree_ = *std::move(tree);
  }
  kind_.store(kind);
  marked_ = *id;
  is_set_ = true;
  mark_again_ = false;
  trouble_.clear();
  again_ns_ = 0;
  again_after_ns_ = kAgainNs;
  return absl::OkStatus();
}

void PlaceGuard::Publish(bh_protection level, std::vector<std::string> reasons) {
  const MutexLock lock(mutex_);
  const bool lost = level == BH_PROTECTION_NONE && protection_.level != BH_PROTECTION_NONE;
  if (lost) ++protection_.losses;
  protection_.level = level;
  protection_.reasons = std::move(reasons);
}

// The owner of a folder can move it without limit: the newest state is told, with the number of
// losses, and not each of them.
void PlaceGuard::Tell() {
  const GuardProtection now = protection();
  const uint64_t now_ns = MonotonicNowNs();
  if (now == told_) return;
  if (now_ns >= minute_ends_ns_) {
    minute_ends_ns_ = now_ns + LogLimit::kMinuteNs;
    tells_ = 0;
  }
  if (tells_ == LogLimit::kLinesMax) return;
  ++tells_;
  told_ = now;
  if (on_protection_) on_protection_(now);
}

std::vector<std::string> PlaceGuard::MountsBelow() const {
  const absl::StatusOr<std::vector<MountEntry>> mounts = ReadMounts();
  if (!mounts.ok()) return {absl::StrCat("the mounts can't be read: ", mounts.status().message())};
  const std::string below = guard_.folder == "/" ? "/" : absl::StrCat(guard_.folder, "/");
  std::vector<std::string> found;
  for (const MountEntry& mount : *mounts) {
    if (absl::StartsWith(mount.point, below) && mount.point != below && HoldsFiles(mount)) {
      found.push_back(mount.point);
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

void PlaceGuard::Check(bool look_at_mounts) {
  if (look_at_mounts) mounts_below_ = MountsBelow();
  absl::StatusOr<UniqueFd> directory = OpenPlace(guard_.folder);
  absl::StatusOr<DirectoryId> id =
      directory.ok() ? IdOf(directory->get()) : absl::StatusOr<DirectoryId>(directory.status());
  if (!id.ok()) {
    is_set_ = false;
    return Publish(BH_PROTECTION_NONE, {std::string(id.status().message())});
  }
  // A walk of a large tree that can't be marked takes time that others need.
  if (!is_set_ && *id == failed_ && MonotonicNowNs() < again_ns_) return;
  if (!is_set_ || *id != marked_ || !IsMarked(directory->get())) {
    if (is_set_) {
      Publish(
          BH_PROTECTION_NONE,
          {*id != marked_ ? "another folder is here now (it was mounted over, moved or made anew)"
                          : "the kernel has removed the mark"});
    }
    is_set_ = false;
    directory->reset();
    if (absl::Status status = Set(); !status.ok()) {
      failed_ = *id;
      again_ns_ = MonotonicAfterNs(again_after_ns_);
      again_after_ns_ = std::min(2 * again_after_ns_, kAgainNsMax);
      return Publish(BH_PROTECTION_NONE,
                     {absl::StrCat("what is here now can't be guarded: ", status.message())});
    }
    directory = OpenPlace(guard_.folder);
  }
  std::vector<std::string> reasons;
  // Set by this thread only.
  TreeMarks* tree = nullptr;
  {
    const MutexLock lock(mutex_);
    tree = tree_.get();
  }
  if (tree != nullptr) {
    const uint64_t now_ns = MonotonicNowNs();
    const bool has_trouble = tree->unmarked() != 0 || !trouble_.empty();
    if (has_trouble && again_ns_ == 0) again_ns_ = now_ns + again_after_ns_;
    if (directory.ok() && (mark_again_ || (has_trouble && now_ns >= again_ns_))) {
      const absl::Status status = tree->MarkAll(directory->get());
      mark_again_ = false;
      trouble_ = status.ok() ? "" : std::string(status.message());
      again_after_ns_ = std::min(2 * again_after_ns_, kAgainNsMax);
      again_ns_ = 0;
    }
    if (!trouble_.empty())
      reasons.push_back(absl::StrCat("new folders may be unguarded: ", trouble_));
    if (tree->unmarked() != 0) {
      reasons.push_back(absl::StrCat(
          tree->unmarked(), " folders are not guarded; the first: ", tree->first_unmarked()));
    }
    if (reasons.empty()) again_after_ns_ = kAgainNs;
  }
  for (const std::string& mount : mounts_below_) {
    if (places_->Has(mount)) continue;
    reasons.push_back(absl::StrCat(mount,
                                   " is another mount, which this guard does not cover: name "
                                   "it as a guard, too, or unmount it"));
  }
  const bh_protection level = reasons.empty() ? BH_PROTECTION_FULL : BH_PROTECTION_DEGRADED;
  Publish(level, std::move(reasons));
}

void PlaceGuard::Watch() {
  bool look_at_mounts = false;
  uint64_t check_by_ns = 0;  // also while directories come without a pause
  for (;;) {
    TreeMarks* tree = nullptr;
    bool lost = false;
    {
      const MutexLock lock(mutex_);
      tree = tree_.get();
      lost = protection_.level == BH_PROTECTION_NONE;
    }
    pollfd waited[3] = {
        {.fd = stop_.get(), .events = POLLIN, .revents = 0},
        {.fd = mounts_.get(), .events = POLLPRI, .revents = 0},
        {.fd = tree == nullptr ? -1 : tree->events(), .events = POLLIN, .revents = 0}};
    poll(waited, 3, lost ? kCheckLostMs : kCheckMs);
    if (waited[0].revents != 0) return;
    if (waited[1].revents != 0) look_at_mounts = true;
    if (tree != nullptr) {
      if (waited[2].revents != 0) {
        absl::StatusOr<UniqueFd> directory = OpenPlace(guard_.folder);
        // Another folder's descriptor would lead into another file system.
        absl::StatusOr<DirectoryId> id = directory.ok()
                                             ? IdOf(directory->get())
                                             : absl::StatusOr<DirectoryId>(directory.status());
        const bool same = id.ok() && *id == marked_;
        const TreeMarks::Change change = tree->HandleEvents(same ? directory->get() : -1);
        mark_again_ = mark_again_ || change.mark_again;
        const bool due = MonotonicNowNs() >= check_by_ns;
        if (!due && !change.root_moved && !mark_again_ && !look_at_mounts) continue;
      }
      tree->TellLeftOut(MonotonicNowNs());
    }
    Check(look_at_mounts);
    compared_ns_.store(MonotonicNowNs());
    Tell();
    look_at_mounts = false;
    check_by_ns = MonotonicAfterNs(kCheckMs * kNanosecondsPerMillisecond);
  }
}

}  // namespace bulkhead
