// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/embedded/embedded_attachment.h"

#include <utility>

namespace bulkhead {
namespace {

constexpr const char* kCounters[] = {"events", "denied"};

}  // namespace

constinit const AttachmentKind kEmbeddedAttachment = {
    .name = "embedded",
    .summary = "an application plays the kernel ('bulkhead scan'); needs no rights",
    .remedy = "free some memory: it needs nothing else",
    .capabilities = kSendsNotifications,
    .counters = kCounters,
    .probe = [] { return EmbeddedShim::Create({}).status(); },
    .create = [](const AttachmentOptions&) -> absl::StatusOr<std::unique_ptr<Attachment>> {
      return EmbeddedAttachment::Create();
    },
};

absl::StatusOr<std::unique_ptr<EmbeddedAttachment>> EmbeddedAttachment::Create(
    uint64_t deadline_ns) {
  absl::StatusOr<std::unique_ptr<EmbeddedShim>> shim =
      EmbeddedShim::Create({.deadline_ns = deadline_ns});
  if (!shim.ok()) return shim.status();
  return std::unique_ptr<EmbeddedAttachment>(new EmbeddedAttachment(*std::move(shim)));
}

absl::StatusOr<MarkKind> EmbeddedAttachment::Guard(const GuardSpec& guard) {
  return absl::UnimplementedError("attachment 'embedded' can't guard " + guard.folder +
                                  ": its application asks about files itself");
}

std::vector<uint64_t> EmbeddedAttachment::CounterValues() {
  uint64_t events = 0;
  uint64_t denied = 0;
  for (ChannelId channel = 0;; ++channel) {
    const auto one = shim_->Statistics(channel);
    if (!one.ok()) break;
    events += one->calls;
    denied += one->denied;
  }
  return {events, denied};
}

}  // namespace bulkhead
