// SPDX-License-Identifier: Apache-2.0
//
// What a supervisor and a shim in a process of its own say to each other.
#ifndef BULKHEAD_IPC_CONTROL_SHIM_PROTOCOL_H_
#define BULKHEAD_IPC_CONTROL_SHIM_PROTOCOL_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "ipc/abi/denial.h"
#include "ipc/abi/end.h"
#include "ipc/abi/generation.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/statistics.h"
#include "ipc/control/envelope.h"
#include "ipc/shim_link.h"

namespace bulkhead {

ControlBuffer MakeShimHello(uint32_t pid, uint32_t incarnation, uint32_t adopted);
ControlBuffer MakeBeginGeneration(uint64_t request, ChannelId channel,
                                  const bh_generation_spec& spec);
// InvalidArgument for a set of another length.
absl::StatusOr<bh_generation_spec> ReadBeginGeneration(const wire::BeginGeneration& message);
ControlBuffer MakeEndGeneration(uint64_t request, ChannelId channel, uint32_t generation,
                                bh_end cause);
ControlBuffer MakeSetState(uint64_t request, ChannelId channel, bool quarantined, bool draining);
ControlBuffer MakeSetPolicy(uint64_t request, ChannelId channel, const bh_policy& policy);
// InvalidArgument for a wrong number of rules or a value that is no Action.
absl::StatusOr<bh_policy> ReadPolicy(const wire::SetPolicy& message);
ControlBuffer MakeGetStatistics(uint64_t request, ChannelId channel);
// `error` empty: done. `statistics` null: not asked for.
ControlBuffer MakeResult(uint64_t request, std::string_view error,
                         const bh_statistics* statistics = nullptr,
                         const bh_in_hand* in_hand = nullptr);
// Of nothing that is known, when it is absent or not as it should be.
bh_in_hand ReadInHand(const wire::Result& result);
ControlBuffer MakeShimEvent(ChannelId channel, uint32_t event, uint32_t detail, uint32_t generation,
                            uint64_t call_id);
ControlBuffer MakeShimDenial(ChannelId channel, const bh_denial& denial);
// InvalidArgument for a record of another size.
absl::StatusOr<bh_denial> ReadShimDenial(const wire::ShimDenial& message);

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_CONTROL_SHIM_PROTOCOL_H_
