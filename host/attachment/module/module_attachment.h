// SPDX-License-Identifier: Apache-2.0
//
// ModuleAttachment: the shim is the kernel module. One supervisor has it at a time; what a
// supervisor that died left there is continued, and let go by Settle().
#ifndef BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_ATTACHMENT_H_
#define BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_ATTACHMENT_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/attachment/attachment.h"
#include "host/attachment/module/module_link.h"

namespace bulkhead {

extern const AttachmentKind kModuleAttachment;

class ModuleAttachment final : public Attachment {
 public:
  static absl::StatusOr<std::unique_ptr<Attachment>> Create(const AttachmentOptions& options);
  // A supervisor that took over and did not get as far as guarding leaves what it found.
  ~ModuleAttachment() override;

  ShimLink* link() override { return link_.get(); }
  absl::StatusOr<MarkKind> Guard(const GuardSpec& guard) override;
  absl::Status Settle() override;
  std::vector<uint64_t> CounterValues() override;
  void RemoveGuards() override;
  void Stop() override {}

 private:
  explicit ModuleAttachment(std::unique_ptr<ModuleLink> link) : link_(std::move(link)) {}

  const std::unique_ptr<ModuleLink> link_;
  bool settled_ = false;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_MODULE_MODULE_ATTACHMENT_H_
