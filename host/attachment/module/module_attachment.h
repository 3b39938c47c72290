// SPDX-License-Identifier: Apache-2.0
//
// ModuleAttachment: the shim is the kernel module. One supervisor has it at a time; what a
// supervisor that died left there is continued, and let go by Settle().
#ifndef BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_ATTACHMENT_H_
#define BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_ATTACHMENT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/attachment.h"
#include "host/attachment/module/module_link.h"
#include "host/attachment/place.h"
#include "ipc/mutex.h"

namespace bulkhead {

extern const AttachmentKind kModuleAttachment;

class ModuleAttachment final : public Attachment {
 public:
  static absl::StatusOr<std::unique_ptr<Attachment>> Create(const AttachmentOptions& options);
  // A supervisor that took over and did not get as far as guarding leaves what it found.
  ~ModuleAttachment() override;

  ShimLink* link() override { return link_.get(); }
  absl::StatusOr<MarkKind> Guard(const GuardSpec& guard) override;
  absl::Status Reguard(const std::vector<GuardSpec>& guards) override;
  void Accept(const std::set<std::string>& limits) override { limits_.Accept(limits); }
  absl::Status Settle() override;
  // Compares each place with what the module guards, and guards what is there now.
  std::vector<GuardProtection> Protections() override;
  std::vector<uint64_t> CounterValues() override;
  void RemoveGuards() override;
  void Stop() override {}

 private:
  struct Guarded {
    GuardSpec spec;
    uint32_t id;          // the module's, for a guard of the same place later
    DirectoryId guarded;  // what the module guards
    GuardProtection protection;
  };

  ModuleAttachment(std::unique_ptr<ModuleLink> link, AttachmentOptions options)
      : link_(std::move(link)),
        options_(std::move(options)),
        limits_(kModuleAttachment.limits, options_.accepted) {}
  absl::StatusOr<Guarded> Set(const GuardSpec& guard, uint32_t id);
  absl::Status SetAgain(Guarded& guarded);

  const std::unique_ptr<ModuleLink> link_;
  const AttachmentOptions options_;
  Limits limits_;
  Mutex guards_mutex_;
  std::atomic<bool> settled_{false};
  uint32_t last_id_ ABSL_GUARDED_BY(guards_mutex_) = 0;
  std::vector<Guarded> guards_ ABSL_GUARDED_BY(guards_mutex_);
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_ATTACHMENT_H_
