// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/registry.h"

#include "host/attachment/embedded/embedded_attachment.h"
#include "host/attachment/fanotify/fanotify_attachment.h"
#include "host/attachment/module/module_attachment.h"

namespace bulkhead {
namespace {

constexpr const AttachmentKind* kRows[] = {
    &kModuleAttachment,
    &kFanotifyAttachment,
    &kEmbeddedAttachment,
};

}  // namespace

AttachmentRows Attachments() { return kRows; }

}  // namespace bulkhead
