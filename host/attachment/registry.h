// SPDX-License-Identifier: Apache-2.0
//
// The attachments that a program knows. The order of the rows is that of preference: "auto" is the
// first that this machine has and that can do what is asked.
#ifndef BULKHEAD_HOST_ATTACHMENT_REGISTRY_H_
#define BULKHEAD_HOST_ATTACHMENT_REGISTRY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "host/attachment/attachment.h"

namespace bulkhead {

using AttachmentRows = absl::Span<const AttachmentKind* const>;

// The product's own.
AttachmentRows Attachments();

struct ChosenAttachment {
  const AttachmentKind* kind = nullptr;
  std::shared_ptr<Attachment> attachment;
};

// `name` is a row's, or "auto". FailedPrecondition: it lacks a need; the message names the need's
// field, the attachments that have it, and why none of those is there. NotFound: no such row, or
// this machine has none.
absl::StatusOr<ChosenAttachment> CreateAttachment(AttachmentRows rows, const std::string& name,
                                                  const std::vector<Need>& needs,
                                                  const AttachmentOptions& options);

// FailedPrecondition, with that message: this attachment lacks a need.
absl::Status CheckNeeds(AttachmentRows rows, const AttachmentKind& kind,
                        const std::vector<Need>& needs);

// For help and for checking words: the names of the rows that can do `capabilities`.
std::vector<std::string> AttachmentNames(AttachmentRows rows, uint32_t capabilities = 0);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_REGISTRY_H_
