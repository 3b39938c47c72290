// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/module/module_attachment.h"

#include "ipc/abi/module.h"

namespace bulkhead {
namespace {

// The hosts of a supervisor that was killed end after it.
constexpr uint64_t kFormerEndsWithinNs = 1'000'000'000;
constexpr const char* kCounters[] = {"events", "denied", "filtered"};

}  // namespace

constinit const AttachmentKind kModuleAttachment = {
    .name = "module",
    .summary = "the kernel module, which filters in the kernel",
    .remedy = "load it as root (docs/kernel-module.md); the other attachments need no module",
    .capabilities = kGuardsFolders | kFiltersByMode | kFiltersByOwner | kFiltersByExtension |
                    kFiltersByFolder | kSendsNotifications | kOutlivesSupervisor,
    .counters = kCounters,
    .probe = [] { return ModuleLink::Open().status(); },
    .create = ModuleAttachment::Create,
};

absl::StatusOr<std::unique_ptr<Attachment>> ModuleAttachment::Create(
    const AttachmentOptions& options) {
  absl::StatusOr<std::unique_ptr<ModuleLink>> link = ModuleLink::Open(kFormerEndsWithinNs);
  if (!link.ok()) return link.status();
  if ((*link)->found_left() && options.log) {
    options.log("takes over the kernel module from a supervisor that died");
  }
  return std::unique_ptr<Attachment>(new ModuleAttachment(*std::move(link)));
}

ModuleAttachment::~ModuleAttachment() {
  if (settled_ || !link_->found_left()) RemoveGuards();
}

// A tree is as exact here as a mark on a whole file system: auto is always the tree.
absl::StatusOr<MarkKind> ModuleAttachment::Guard(const GuardSpec& guard) {
  GuardSpec wanted = guard;
  if (wanted.mark == MarkKind::kAuto) wanted.mark = MarkKind::kDirectory;
  if (absl::Status status = link_->Guard(wanted); !status.ok()) return status;
  return wanted.mark;
}

absl::Status ModuleAttachment::Settle() {
  absl::Status status = link_->Settle();
  settled_ = settled_ || status.ok();
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

void ModuleAttachment::RemoveGuards() { link_->RemoveGuards().IgnoreError(); }

}  // namespace bulkhead
