// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/module/module_attachment.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "ipc/abi/module.h"
#include "ipc/unique_fd.h"

namespace bulkhead {
namespace {

// The hosts of a supervisor that was killed end after it.
constexpr uint64_t kFormerEndsWithinNs = 1'000'000'000;
constexpr const char* kCounters[] = {"events", "denied", "filtered"};

// shim/module/file/overlays.c
bool JudgesOverlays() {
  const UniqueFd parameter(open("/sys/module/bulkhead/parameters/overlays", O_RDONLY | O_CLOEXEC));
  char judges = 'N';
  return read(parameter.get(), &judges, 1) == 1 && judges == 'Y';
}

constexpr AttachmentLimit kLimits[] = {
    kMountCopiesLimit,
    {.name = kOverlaysLimit.name,
     .text = kOverlaysLimit.text,
     .remedy = kOverlaysLimit.remedy,
     .applies = [] { return !JudgesOverlays() && UsersCanMountOverlays(); }}};

}  // namespace

constinit const AttachmentKind kModuleAttachment = {
    .name = "module",
    .summary = "the kernel module, which filters in the kernel",
    .remedy = "load it as root (docs/kernel-module.md); the other attachments need no module",
    .capabilities = kGuardsFolders | kFiltersByMode | kFiltersByOwner | kFiltersByExtension |
                    kFiltersByFolder | kSendsNotifications | kOutlivesSupervisor | kAuditsGuards,
    .counters = kCounters,
    .limits = kLimits,
    .probe = [] { return ModuleLink::Open().status(); },
    .create = ModuleAttachment::Create,
};

absl::StatusOr<std::unique_ptr<Attachment>> ModuleAttachment::Create(
    const AttachmentOptions& options) {
  if (options.store != nullptr) {
    absl::StatusOr<std::unique_ptr<ModuleLink>> left = ModuleLink::Adopt(options.store);
    if (left.ok()) {
      return std::unique_ptr<Attachment>(new ModuleAttachment(*std::move(left), options));
    }
    if (!absl::IsNotFound(left.status())) return left.status();
  }
  absl::StatusOr<std::unique_ptr<ModuleLink>> link = ModuleLink::Open(kFormerEndsWithinNs);
  if (!link.ok()) return link.status();
  if (options.store != nullptr) (*link)->KeepIn(options.store);
  if ((*link)->found_left() && options.log) {
    options.log("takes over the kernel module from a supervisor that died");
  }
  return std::unique_ptr<Attachment>(new ModuleAttachment(*std::move(link), options));
}

ModuleAttachment::~ModuleAttachment() {
  if (settled_.load() || !link_->found_left()) RemoveGuards();
}

// A tree is as exact here as a mark on a whole file system: auto is always the tree.
absl::StatusOr<ModuleAttachment::Guarded> ModuleAttachment::Set(const GuardSpec& guard,
                                                                uint32_t id) {
  GuardSpec wanted = guard;
  if (wanted.mark == MarkKind::kAuto) wanted.mark = MarkKind::kDirectory;
  absl::StatusOr<std::string> place = ResolvePlace(wanted.folder);
  if (!place.ok()) return place.status();
  wanted.folder = *std::move(place);
  Guarded guarded;
  guarded.protection.folder = guard.folder;
  guarded.spec = std::move(wanted);
  guarded.id = id;
  if (absl::Status status = SetAgain(guarded); !status.ok()) return status;
  return guarded;
}

absl::StatusOr<MarkKind> ModuleAttachment::Guard(const GuardSpec& guard) {
  const MutexLock lock(guards_mutex_);
  absl::StatusOr<Guarded> guarded = Set(guard, ++last_id_);
  if (!guarded.ok()) return guarded.status();
  guards_.push_back(*std::move(guarded));
  return guards_.back().spec.mark;
}

absl::Status ModuleAttachment::SetAgain(Guarded& guarded) {
  const absl::StatusOr<DirectoryId> id = IdAt(guarded.spec.folder);
  if (!id.ok()) return id.status();
  absl::Status status = link_->Guard(guarded.spec, guarded.id);
  if (status.ok()) guarded.guarded = *id;
  return status;
}

// The module keeps what was left in force until it is settled: all is left, those to come are set,
// and the rest goes.
absl::Status ModuleAttachment::Reguard(const std::vector<GuardSpec>& guards) {
  const MutexLock lock(guards_mutex_);
  if (absl::Status status = link_->Leave(); !status.ok()) return status;
  std::vector<Guarded> next;
  absl::Status status;
  for (const GuardSpec& guard : guards) {
    absl::StatusOr<Guarded> set = Set(guard, ++last_id_);
    status = set.status();
    if (!status.ok()) break;
    for (const Guarded& before : guards_) {
      if (before.protection.folder == guard.folder) {
        set->protection.losses = before.protection.losses;
      }
    }
    next.push_back(*std::move(set));
  }
  if (status.ok()) status = link_->Settle();
  if (status.ok()) {
    settled_.store(true);
    guards_ = std::move(next);
    return status;
  }
  // What a service before this one has left stays as it is.
  if (!settled_.load() || !link_->Leave().ok()) return status;
  absl::Status undone;
  for (Guarded& guarded : guards_) undone.Update(SetAgain(guarded));
  // A guard that can't be set again stays as one that was left.
  if (undone.ok()) undone = link_->Settle();
  if (!undone.ok() && options_.log) {
    options_.log(absl::StrCat("more is guarded than was asked for, until the guards change again: ",
                              std::string(undone.message())));
  }
  return status;
}

std::vector<GuardProtection> ModuleAttachment::Protections() {
  limits_.LookAgain();
  const bool ejected = link_->IsEjected();
  std::vector<GuardProtection> now, changed;
  {
    const MutexLock lock(guards_mutex_);
    for (Guarded& guarded : guards_) {
      const GuardProtection before = guarded.protection;
      GuardProtection& protection = guarded.protection;
      const absl::StatusOr<DirectoryId> id = IdAt(guarded.spec.folder);
      if (ejected) {
        if (before.level != BH_PROTECTION_NONE) ++protection.losses;
        protection.level = BH_PROTECTION_NONE;
        protection.reasons = {"the kernel module was ejected; start the service again"};
      } else if (id.ok() && *id == guarded.guarded) {
        protection.level = BH_PROTECTION_FULL;
        protection.reasons.clear();
      } else {
        if (before.level != BH_PROTECTION_NONE) ++protection.losses;
        const absl::Status status = id.ok() ? SetAgain(guarded) : id.status();
        protection.level = status.ok() ? BH_PROTECTION_FULL : BH_PROTECTION_NONE;
        protection.reasons.clear();
        if (!status.ok()) protection.reasons.emplace_back(status.message());
      }
      limits_.Degrade(protection, guarded.spec.mark);
      if (protection != before) changed.push_back(protection);
      now.push_back(protection);
    }
  }
  for (const GuardProtection& guard : changed) {
    if (options_.on_protection) options_.on_protection(guard);
  }
  return now;
}

absl::Status ModuleAttachment::Settle() {
  absl::Status status = link_->Settle();
  if (status.ok()) settled_.store(true);
  return status;
}

std::vector<uint64_t> ModuleAttachment::CounterValues() {
  uint64_t events = 0;
  uint64_t denied = 0;
  // A call that several drivers were asked about counts for each.
  for (ChannelId channel = 0; channel < BH_MODULE_CHANNELS_MAX; ++channel) {
    const auto one = link_->Statistics(channel);
    if (!one.ok()) continue;
    events += one->calls;
    denied += one->denied;
  }
  return {events, denied, link_->Filtered()};
}

void ModuleAttachment::RemoveGuards() {
  {
    const MutexLock lock(guards_mutex_);
    guards_.clear();
  }
  link_->RemoveGuards().IgnoreError();
}

}  // namespace bulkhead
