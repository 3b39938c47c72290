// SPDX-License-Identifier: Apache-2.0
//
// `bulkhead` with one attachment more: the row below is all that it takes.
#include <vector>

#include "host/attachment/registry.h"
#include "host/cli/command_line.h"
#include "tests/attachment/inbox/inbox_attachment.h"

int main(int argc, char** argv) {
  const bulkhead::AttachmentRows product = bulkhead::Attachments();
  std::vector<const bulkhead::AttachmentKind*> rows(product.begin(), product.end());
  rows.push_back(&bulkhead::kInboxAttachment);
  return bulkhead::RunCommandLine(argc, argv, rows);
}
