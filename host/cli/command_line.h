// SPDX-License-Identifier: Apache-2.0
//
// The command line of `bulkhead`, for a main() that says which attachments there are.
#ifndef BULKHEAD_HOST_CLI_COMMAND_LINE_H_
#define BULKHEAD_HOST_CLI_COMMAND_LINE_H_

#include "host/attachment/registry.h"

namespace bulkhead {

// The process's exit code.
int RunCommandLine(int argc, char** argv, AttachmentRows attachments);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_COMMAND_LINE_H_
