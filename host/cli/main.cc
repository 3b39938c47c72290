// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/registry.h"
#include "host/cli/command_line.h"

int main(int argc, char** argv) {
  return bulkhead::RunCommandLine(argc, argv, bulkhead::Attachments());
}
