// SPDX-License-Identifier: Apache-2.0
#include "host/cli/attachment.h"

#include "host/attachment/fanotify/fanotify_attachment.h"
#include "ipc/abi/callbacks.h"

namespace bulkhead {
namespace {

constexpr uint64_t kFormerEndsWithinNs = 1'000'000'000;

class WithFanotify final : public Attachment {
 public:
  explicit WithFanotify(std::unique_ptr<FanotifyAttachment> fanotify)
      : fanotify_(std::move(fanotify)) {}

  const char* name() const override { return "fanotify"; }
  ShimLink* link() override { return fanotify_->link(); }
  absl::Status Guard(const std::string& folder, MarkKind kind,
                     const GuardedEvents& events) override {
    return fanotify_->Guard(folder, kind, events).status();
  }
  Counters counters() override {
    const FanotifyAttachment::Counters now = fanotify_->counters();
    return {.events = now.events,
            .shim_pid = static_cast<uint32_t>(fanotify_->worker_pid()),
            .incarnation = now.incarnation,
            .report = {{"events", now.events},
                       {"allowed", now.allowed},
                       {"denied", now.denied},
                       {"late", now.late},
                       {"adopted", now.adopted},
                       {"full", now.full},
                       {"replayed", now.replayed},
                       {"shim_incarnations", now.incarnation}}};
  }
  void RemoveGuards() override { fanotify_->RemoveGuards(); }
  void Stop() override { fanotify_->Stop(); }

 private:
  std::unique_ptr<FanotifyAttachment> fanotify_;
};

// A tree is as exact here as a mark on a whole file system: auto is always the tree.
bh_module_guard_kind GuardKindOf(MarkKind kind) {
  switch (kind) {
    case MarkKind::kMount:
      return BH_GUARD_MOUNT;
    case MarkKind::kFilesystem:
      return BH_GUARD_FILESYSTEM;
    default:
      return BH_GUARD_TREE;
  }
}

class WithModule final : public Attachment {
 public:
  WithModule(std::unique_ptr<ModuleLink> link, const AttachmentOptions& options)
      : link_(std::move(link)), deadline_ns_(options.deadline_ns), filter_(options.filter) {}
  // Who took over and did not get as far as guarding leaves what it found.
  ~WithModule() override {
    if (settled_ || !link_->found_left()) RemoveGuards();
  }

  const char* name() const override { return "module"; }
  ShimLink* link() override { return link_.get(); }
  absl::Status Guard(const std::string& folder, MarkKind kind,
                     const GuardedEvents& events) override {
    const uint64_t callbacks = (events.open ? bh_callback_bit(BH_CALLBACK_FILE_OPEN) : 0) |
                               (events.exec ? bh_callback_bit(BH_CALLBACK_FILE_EXEC) : 0) |
                               (events.access ? bh_callback_bit(BH_CALLBACK_FILE_ACCESS) : 0);
    return link_->Guard(folder, GuardKindOf(kind), callbacks, deadline_ns_, filter_);
  }
  absl::Status Settle() override {
    absl::Status status = link_->Settle();
    settled_ = settled_ || status.ok();
    return status;
  }
  Counters counters() override {
    Counters sum;
    uint64_t denied = 0;
    // A call that several drivers were asked about counts for each.
    for (ChannelId channel = 0; channel < BH_MODULE_CHANNELS_MAX; ++channel) {
      const absl::StatusOr<bh_statistics> one = link_->Statistics(channel);
      if (!one.ok()) continue;
      sum.events += one->calls;
      denied += one->denied;
    }
    sum.filtered = link_->Filtered();
    sum.report = {{"events", sum.events}, {"denied", denied}, {"filtered", sum.filtered}};
    return sum;
  }
  void RemoveGuards() override { (void)link_->RemoveGuards(); }
  void Stop() override {}

 private:
  std::unique_ptr<ModuleLink> link_;
  const uint64_t deadline_ns_;
  const GuardFilter filter_;
  bool settled_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Attachment>> Attachment::Create(const AttachmentOptions& options) {
  if (options.kind != "fanotify") {
    absl::StatusOr<std::unique_ptr<ModuleLink>> link = ModuleLink::Open(kFormerEndsWithinNs);
    if (link.ok()) {
      if ((*link)->found_left() && options.log) {
        options.log("takes over the kernel module from a supervisor that died");
      }
      return std::make_unique<WithModule>(*std::move(link), options);
    }
    if (options.kind == "module" || !absl::IsNotFound(link.status())) return link.status();
  }
  // Each event would come to user mode before it could be let go: that is what filters save.
  if (!options.filter.empty()) {
    return absl::FailedPreconditionError(
        "only the kernel module filters by mode, owner, extension or folder to skip: load it "
        "(modprobe bulkhead) and use --attach module");
  }
  if (absl::Status status = FanotifyAttachment::Probe(); !status.ok()) return status;
  FanotifyAttachment::Options wanted;
  wanted.deadline_ns = options.deadline_ns;
  wanted.log = options.log;
  absl::StatusOr<std::unique_ptr<FanotifyAttachment>> fanotify = FanotifyAttachment::Create(wanted);
  if (!fanotify.ok()) return fanotify.status();
  return std::make_unique<WithFanotify>(*std::move(fanotify));
}

}  // namespace bulkhead
