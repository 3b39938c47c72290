// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_HOST_CLI_DRIVER_TEMPLATES_H_
#define BULKHEAD_HOST_CLI_DRIVER_TEMPLATES_H_

#include <span>

#include "host/service/embedded_file.h"

namespace bulkhead {

// host/cli/templates: a driver's project.
std::span<const EmbeddedFile> DriverTemplates();

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_DRIVER_TEMPLATES_H_
