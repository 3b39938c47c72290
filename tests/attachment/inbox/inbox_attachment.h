// SPDX-License-Identifier: Apache-2.0
//
// An example attachment: files that are written in a guarded folder are calls, when they are
// closed; a file that is denied is renamed to NAME.denied. It shows what an attachment needs:
// this folder, and its row (docs/adding-an-attachment.md).
#ifndef BULKHEAD_TESTS_ATTACHMENT_INBOX_INBOX_ATTACHMENT_H_
#define BULKHEAD_TESTS_ATTACHMENT_INBOX_INBOX_ATTACHMENT_H_

#include "host/attachment/attachment.h"

namespace bulkhead {

extern const AttachmentKind kInboxAttachment;

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_ATTACHMENT_INBOX_INBOX_ATTACHMENT_H_
