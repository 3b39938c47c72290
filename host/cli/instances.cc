// SPDX-License-Identifier: Apache-2.0
#include "host/cli/instances.h"

#include <cstdint>
#include <cstdio>
#include <filesystem>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "host/service/printable.h"
#include "host/supervisor/instance.h"
#include "host/supervisor/operator_server.h"
#include "ipc/monotonic.h"

namespace bulkhead {

Instances LookForInstances() {
  constexpr uint64_t kStatusWithinNs = 3 * kNanosecondsPerSecond;  // of each
  Instances found;
  for (const std::string& path : SocketsToAsk()) {
    absl::StatusOr<ControlMessage> answer = AskInstance(path, MakeGetStatus(), kStatusWithinNs);
    if (absl::IsNotFound(answer.status())) continue;
    if (const auto* status = answer.ok() ? answer->as<wire::Status>() : nullptr) {
      found.answered.emplace_back(path, ReadStatus(*status));
      continue;
    }
    std::string error = std::string(answer.status().message());
    const std::string pid = std::filesystem::path(path).stem();
    if (const auto* done = answer.ok() ? answer->as<wire::Done>() : nullptr;
        done != nullptr && done->refused()) {
      found.refused.emplace_back(pid, done->error() != nullptr ? done->error()->str() : "");
      continue;
    }
    if (const auto* done = answer.ok() ? answer->as<wire::Done>() : nullptr) {
      error = done->error() != nullptr ? done->error()->str() : "it answered Done";
    } else if (answer.ok()) {
      error = absl::StrCat("it answered ", answer->name());
    }
    found.silent.emplace_back(pid, std::move(error));
  }
  return found;
}

Instances FindInstances() {
  Instances found = LookForInstances();
  for (const auto& [instance, error] : found.silent) {
    std::fprintf(stderr,
                 "bulkhead: instance %s does not answer (%s): its guards may hold; look at that "
                 "process, or end it\n",
                 instance.c_str(), error.c_str());
  }
  if (!found.answered.empty()) return found;
  for (const auto& [instance, error] : found.refused) {
    std::fprintf(stderr, "bulkhead: instance %s: %s\n", instance.c_str(), Printable(error).c_str());
  }
  return found;
}

}  // namespace bulkhead
