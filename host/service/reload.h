// SPDX-License-Identifier: Apache-2.0
//
// What a running service does when its configuration has changed.
#ifndef BULKHEAD_HOST_SERVICE_RELOAD_H_
#define BULKHEAD_HOST_SERVICE_RELOAD_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/attachment/registry.h"
#include "host/service/service_config.h"

namespace bulkhead {

// Indexes are those of the drivers in the configuration that is in force.
struct ReloadPlan {
  std::vector<size_t> content;  // of these it and the options are compared, and put in force
  std::vector<std::pair<size_t, bh_policy>> policies;  // that have changed, with their modes
  bool accepts = false;                                // the limits that are accepted are others
  std::vector<std::string> guards;  // what becomes of them, one text for each that is not as it was
};

// FailedPrecondition: something has changed that takes a restart; each such change is named. Both
// have the folders of their guards in the same form. Their drivers need not be in the same order.
absl::StatusOr<ReloadPlan> PlanReload(const ServiceConfig& now, const ServiceConfig& next);

// A file's configuration; InvalidArgument with its mistakes, a line each.
absl::StatusOr<ServiceConfig> UsableConfig(const std::string& path, AttachmentRows rows);

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_SERVICE_RELOAD_H_
