// SPDX-License-Identifier: Apache-2.0
//
// PayloadLoan: room in a channel's call pool for the payload of one call, filled at the place where
// the host reads it. The destructor gives the room back; after it has become the payload of a call,
// the end of the call does (bh_loan_take() in shim/core/bulkhead_core.h says when exactly).
//
// For one thread at a time. The shim must outlive it.
#ifndef BULKHEAD_SHIM_EMBEDDED_PAYLOAD_LOAN_H_
#define BULKHEAD_SHIM_EMBEDDED_PAYLOAD_LOAN_H_

#include <cstddef>
#include <utility>

#include "absl/types/span.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {

class PayloadLoan {
 public:
  // `memory`: from bh_loan_take(channel, bytes).
  PayloadLoan(bh_channel* channel, void* memory, size_t bytes)
      : channel_(channel), memory_(memory), bytes_(bytes) {}
  PayloadLoan(PayloadLoan&& other) noexcept
      : channel_(other.channel_),
        memory_(std::exchange(other.memory_, nullptr)),
        bytes_(other.bytes_) {}
  PayloadLoan& operator=(PayloadLoan&&) = delete;
  ~PayloadLoan() {
    if (memory_ != nullptr) bh_loan_drop(channel_, memory_, bytes_);
  }

  // Until it has become a call's payload.
  absl::Span<std::byte> bytes() const { return {static_cast<std::byte*>(memory_), bytes_}; }

  // REQUIRES: the call is made, or started, after this; the loan is not a call's payload yet.
  void MakePayloadOf(bh_call& call) {
    call.payload = std::exchange(memory_, nullptr);
    call.payload_bytes = bytes_;
  }

 private:
  bh_channel* channel_;
  void* memory_;
  size_t bytes_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_PAYLOAD_LOAN_H_
