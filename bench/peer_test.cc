// SPDX-License-Identifier: Apache-2.0
#include "bench/peer.h"

#include <gtest/gtest.h>

#include <memory>

namespace bulkhead {
namespace {

// Enter() published the next mode and then made a call to wake a peer that sleeps in the old one.
// The peer, awake just then, had seen the new mode already: the call had no answer, and each switch
// took as long as the call's deadline.
TEST(Peer, LeavesAModeWhileItIsStillAwakeFromItsLastCall) {
  constexpr int kSwitches = 2000;
  absl::StatusOr<std::unique_ptr<Peer>> peer = Peer::Start();
  ASSERT_TRUE(peer.ok()) << peer.status();
  const uint8_t nothing[BH_INLINE_BYTES] = {};
  for (int i = 0; i < kSwitches; ++i) {
    for (const Mode mode : {Mode::kCallHostAsleep, Mode::kCallBothAsleep, Mode::kCallCold}) {
      (*peer)->Enter(mode, 0, 0);  // ends the process when it runs into a bound
      ASSERT_TRUE((*peer)->Call(mode, nothing))
          << "switch " << i << ", mode " << static_cast<int>(mode);
    }
    (*peer)->Enter(Mode::kFutexBoth, 0, 0);
    Page& page = (*peer)->page();
    const uint32_t value = page.futex_call + 1;
    FutexPost(&page.futex_call, value);
    FutexWaitFor(&page.futex_reply, value - 1);
    ASSERT_EQ(bh_load_acquire(&page.futex_reply), value) << "switch " << i;
  }
}

}  // namespace
}  // namespace bulkhead
