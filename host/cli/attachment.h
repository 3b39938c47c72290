// SPDX-License-Identifier: Apache-2.0
//
// Attachment: where `bulkhead run` gets callbacks from, whichever it is.
#ifndef BULKHEAD_HOST_CLI_ATTACHMENT_H_
#define BULKHEAD_HOST_CLI_ATTACHMENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/fanotify/fanotify_group.h"
#include "host/attachment/module/module_link.h"
#include "ipc/shim_link.h"

namespace bulkhead {

struct AttachmentOptions {
  std::string kind = "auto";  // auto, module or fanotify
  uint64_t deadline_ns = 5'000'000'000;
  GuardFilter filter;                           // of every guard; the module's alone
  std::function<void(const std::string&)> log;  // any thread
};

class Attachment {
 public:
  struct Counters {
    uint64_t events = 0;                                   // that somebody waited for
    uint32_t shim_pid = 0;                                 // 0: the shim is no process
    uint32_t incarnation = 0;                              // of the shim
    uint64_t filtered = 0;                                 // that no driver was asked about
    std::vector<std::pair<std::string, uint64_t>> report;  // all that this kind counts
  };

  // "auto" is the module where it is loaded, else fanotify. Errors say what to do.
  static absl::StatusOr<std::unique_ptr<Attachment>> Create(const AttachmentOptions& options);
  virtual ~Attachment() = default;

  virtual const char* name() const = 0;
  virtual ShimLink* link() = 0;
  virtual absl::Status Guard(const std::string& folder, MarkKind kind,
                             const GuardedEvents& events) = 0;
  // Every folder is guarded: what a supervisor that died had guarded besides is let go.
  virtual absl::Status Settle() { return absl::OkStatus(); }
  virtual Counters counters() = 0;
  // From here on nobody waits for us.
  virtual void RemoveGuards() = 0;
  virtual void Stop() = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_CLI_ATTACHMENT_H_
