// SPDX-License-Identifier: Apache-2.0
//
// UserChannel: one channel of a shim that runs as a user process: the core's channel, its private
// memory and the route of its files. The caller owns the regions, which must outlive the channel.
//
// Control functions (all but core() and route()) are called by one thread at a time; calls may be
// in flight meanwhile.
#ifndef BULKHEAD_SHIM_EMBEDDED_USER_CHANNEL_H_
#define BULKHEAD_SHIM_EMBEDDED_USER_CHANNEL_H_

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ipc/shim_link.h"
#include "shim/core/bulkhead_core.h"
#include "shim/embedded/user_platform.h"

namespace bulkhead {

class UserChannel {
 public:
  // `notify_region`: of spec.notify_entries; without it the channel has no ring. `takeover`: 0, or
  // the number of this takeover of a call region that a process used that has died: a number is
  // used only once on a channel.
  static absl::StatusOr<std::unique_ptr<UserChannel>> Create(ChannelId id, const ChannelSpec& spec,
                                                             const bh_platform* platform,
                                                             const DescriptorRoute* route,
                                                             void* call_region, void* reply_region,
                                                             uint32_t takeover,
                                                             void* notify_region = nullptr);

  bh_channel* core() const { return core_; }
  uint32_t generation() const { return generation_; }  // the active one; 0: none

  // FailedPrecondition when a generation is active, or had that number before.
  absl::Status BeginGeneration(const bh_generation_spec& spec);
  // What the next generation will want; see bh_channel_set_wanted().
  void SetWanted(const bh_generation_spec& spec);
  // NotFound when that generation is not the active one.
  absl::StatusOr<bh_in_hand> EndGeneration(uint32_t generation, bh_end cause);
  // Of the generation that ended last; else of nothing.
  bh_in_hand InHand(uint32_t generation) const;
  void SetState(bool quarantined, bool draining);
  void SetNotifications(const bh_callback_set& kinds);
  absl::Status SetPolicy(const bh_policy& policy);
  bh_statistics Statistics() const;

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  UserChannel() = default;

  ChannelCookie cookie_;
  std::unique_ptr<void, Free> private_memory_;
  bh_channel* core_ = nullptr;
  bh_generation_spec wanted_ = {};
  uint32_t generation_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_USER_CHANNEL_H_
