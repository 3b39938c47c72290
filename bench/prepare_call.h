// SPDX-License-Identifier: Apache-2.0
#ifndef BULKHEAD_BENCH_PREPARE_CALL_H_
#define BULKHEAD_BENCH_PREPARE_CALL_H_

#include <cstdint>

#include "ipc/monotonic.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {

// A call of BH_INLINE_BYTES, but for what they are. No initializer of the whole: that would be
// timed.
inline void PrepareCall(bh_call& call, uint64_t now_ns) {
  call.callback = BH_CALLBACK_FILE_OPEN;
  call.args_bytes = BH_INLINE_BYTES;
  call.payload = nullptr;
  call.payload_bytes = 0;
  call.reply_capacity = 0;
  call.reply_payload = nullptr;
  call.descriptor = -1;
  call.reissue = BH_REISSUE_FREELY;
  call.deadline_ns = now_ns + 5 * kNanosecondsPerSecond;
  call.call_id = 0;
  call.audited = 0;
}

}  // namespace bulkhead

#endif  // BULKHEAD_BENCH_PREPARE_CALL_H_
