// SPDX-License-Identifier: Apache-2.0
//
// ShimLink: what a supervisor says to a shim, wherever that shim is: in the same process
// (embedded), in a small process of its own (fanotify) or in the kernel (module). The supervisor
// knows no other way to a shim.
//
// Channels are numbered by the shim, from 0; a channel lives as long as its shim. Every function
// may be called from any thread and waits at most for a round trip to the shim, bounded by a
// second. Errors: Unavailable when the shim is gone (a takeover may follow: the observer is told),
// NotFound for a channel or generation that does not exist.
#ifndef BULKHEAD_IPC_SHIM_LINK_H_
#define BULKHEAD_IPC_SHIM_LINK_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/abi/channel_spec.h"
#include "ipc/abi/denial.h"
#include "ipc/abi/end.h"
#include "ipc/abi/events.h"
#include "ipc/abi/generation.h"
#include "ipc/abi/notification.h"
#include "ipc/abi/policy.h"
#include "ipc/abi/statistics.h"
#include "ipc/unique_fd.h"

namespace bulkhead {

using ChannelId = uint32_t;

// Hold through absence, crash, hang and a full queue until the deadline, then allow; deny poison.
inline bh_policy DefaultPolicy() {
  bh_policy policy;
  bh_policy_default(&policy);
  return policy;
}

struct ChannelSpec : bh_channel_spec {
  explicit ChannelSpec(std::string of_driver = "") : driver(std::move(of_driver)) {
    bh_channel_spec_default(this);
  }
  std::string driver;
};

// What a host needs to map a channel; duplicates, owned by the receiver.
struct ChannelDescriptors {
  UniqueFd call_region;  // can only be mapped read-only
  UniqueFd reply_region;
  UniqueFd notification_region;  // can only be mapped read-only; none: the channel has no ring
};

class ShimLink {
 public:
  // Told of what the shim sees. Called from a thread of the shim's, or of the link's; must not wait
  // and must not call back into the link.
  class Observer {
   public:
    virtual ~Observer() = default;
    // The host of `generation` hangs: it has not answered a call for held_ms, as long as it may
    // take. 0: not known.
    virtual void OnHung(ChannelId channel, uint32_t generation, uint64_t call_id,
                        uint32_t held_ms) = 0;
    // The host broke the protocol; `violation` is enum bh_violation. The channel is detached
    // already.
    virtual void OnViolation(ChannelId channel, uint32_t generation, uint32_t violation) = 0;
    virtual void OnPoison(ChannelId channel, uint32_t generation, uint64_t call_id) = 0;
    // A call was denied, or would have been: not each, but so many a second at most, and never one
    // that the shim has not counted. Its texts are other processes' bytes.
    virtual void OnDenial(ChannelId, const bh_denial&) {}
    // The shim itself was replaced by its standby; the link has told the new one what serves.
    virtual void OnTakeover(uint32_t incarnation, uint32_t adopted_calls) = 0;
    // The shim is gone and nothing took over: channels have to be made again.
    virtual void OnShimLost() = 0;
  };

  virtual ~ShimLink() = default;
  virtual void SetObserver(Observer* observer) = 0;  // nullptr: none; not owned

  virtual absl::StatusOr<ChannelId> AddChannel(const ChannelSpec& spec) = 0;
  // The last generation that this channel had under a supervisor that died; 0: it is new. The next
  // one's go on above it.
  virtual uint32_t LastGeneration(ChannelId) { return 0; }
  // The generation that serves, or may: the shim was asked to begin it. 0: none.
  virtual uint32_t Serving(ChannelId) { return 0; }
  virtual absl::StatusOr<ChannelDescriptors> Descriptors(ChannelId channel) = 0;

  // Unimplemented where the attachment has no source for notifications and `kinds` has some.
  virtual absl::Status CanNotify(const bh_callback_set& kinds) const;

  // The host of the spec's generation has started and serves. `descriptor_socket` is the shim's end
  // of this generation's socket for files.
  virtual absl::Status BeginGeneration(ChannelId channel, const bh_generation_spec& spec,
                                       UniqueFd descriptor_socket) = 0;
  // The host is dead and reaped; what it had in hand. NotFound when that generation does not serve.
  virtual absl::StatusOr<bh_in_hand> EndGeneration(ChannelId channel, uint32_t generation,
                                                   bh_end cause) = 0;
  // Neither: an operator's word, which lifts the quarantine of calls, too.
  virtual absl::Status SetState(ChannelId channel, bool quarantined, bool draining) = 0;
  virtual absl::Status SetPolicy(ChannelId channel, const bh_policy& policy) = 0;
  virtual absl::StatusOr<bh_statistics> Statistics(ChannelId channel) = 0;

  // Accesses by this process cause no calls (invariant 4). Exclude before it runs its first
  // instruction of its own; include after it was reaped, before its id can come back.
  virtual absl::Status Exclude(pid_t pid) = 0;
  virtual absl::Status Include(pid_t pid) = 0;
  // The same for the supervisor of another instance, and for what it starts: an access by one of
  // those may cause a call, but is not held for a driver, because our hosts may wait for theirs. A
  // link whose exclusions cover children needs no more than an exclusion.
  virtual absl::Status ExcludePeer(pid_t pid) { return Exclude(pid); }
  virtual absl::Status IncludePeer(pid_t pid) { return Include(pid); }
};

}  // namespace bulkhead

#endif  // BULKHEAD_IPC_SHIM_LINK_H_
