// SPDX-License-Identifier: Apache-2.0
//
// EmbeddedAttachment: the application that holds it plays the kernel. It guards no folders; the
// application makes calls through calls().
#ifndef BULKHEAD_HOST_ATTACHMENT_EMBEDDED_EMBEDDED_ATTACHMENT_H_
#define BULKHEAD_HOST_ATTACHMENT_EMBEDDED_EMBEDDED_ATTACHMENT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "host/attachment/attachment.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {

extern const AttachmentKind kEmbeddedAttachment;

class EmbeddedAttachment final : public Attachment {
 public:
  // `deadline_ns`: of each call that names none.
  static absl::StatusOr<std::unique_ptr<EmbeddedAttachment>> Create(
      uint64_t deadline_ns = GuardSpec::kDefaultDeadlineNs);

  EmbeddedShim& calls() { return *shim_; }

  ShimLink* link() override { return shim_.get(); }
  absl::StatusOr<MarkKind> Guard(const GuardSpec& guard) override;
  std::vector<uint64_t> CounterValues() override;
  void RemoveGuards() override {}
  void Stop() override {}

 private:
  explicit EmbeddedAttachment(std::unique_ptr<EmbeddedShim> shim) : shim_(std::move(shim)) {}
  std::unique_ptr<EmbeddedShim> shim_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_HOST_ATTACHMENT_EMBEDDED_EMBEDDED_ATTACHMENT_H_
