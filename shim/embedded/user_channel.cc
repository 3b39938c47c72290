// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/user_channel.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace bulkhead {

absl::StatusOr<std::unique_ptr<UserChannel>> UserChannel::Create(
    ChannelId id, const ChannelSpec& spec, const bh_platform* platform,
    const DescriptorRoute* route, void* call_region, void* reply_region, uint32_t takeover,
    void* notify_region) {
  std::unique_ptr<UserChannel> channel(new UserChannel());
  channel->cookie_ = {.channel = id, .route = route};

  bh_channel_config config;
  bh_channel_config_default(&config);
  config.spec = spec;
  config.notify_region = notify_region;
  if (notify_region == nullptr) config.spec.notify_entries = 0;
  config.adopt = takeover;
  config.cookie = &channel->cookie_;

  channel->wanted_.callbacks = config.callbacks;
  channel->wanted_.descriptor_callbacks = config.descriptor_callbacks;
  const size_t bytes = bh_channel_private_bytes(&config);
  if (bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "channel for driver '", spec.driver, "': the geometry, a policy rule or the cache size (a ",
        "power of two, or 0) is not valid"));
  }
  // aligned_alloc wants a multiple of the alignment.
  const size_t room = (bytes + BH_CACHE_LINE - 1) / BH_CACHE_LINE * BH_CACHE_LINE;
  channel->private_memory_.reset(std::aligned_alloc(BH_CACHE_LINE, room));
  if (channel->private_memory_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a channel: ", room, " bytes"));
  }
  std::memset(channel->private_memory_.get(), 0, room);
  channel->core_ =
      bh_channel_init(channel->private_memory_.get(), &config, platform, call_region, reply_region);
  if (channel->core_ == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("channel for driver '", spec.driver, "': refused by the core"));
  }
  return channel;
}

absl::Status UserChannel::BeginGeneration(const bh_generation_spec& spec) {
  const uint32_t generation = spec.generation;
  if (generation_ != 0) {
    return absl::FailedPreconditionError(absl::StrCat("generation ", generation_,
                                                      " is active: end it before generation ",
                                                      generation, " begins"));
  }
  if (bh_channel_begin_generation(core_, &spec) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "generation ", generation, " cannot begin: the number must be greater than all before it"));
  }
  generation_ = generation;
  wanted_ = spec;
  return absl::OkStatus();
}

void UserChannel::SetWanted(const bh_generation_spec& spec) {
  wanted_ = spec;
  bh_channel_set_wanted(core_, &wanted_);
}

void UserChannel::SetNotifications(const bh_callback_set& kinds) {
  wanted_.notifications = kinds;
  bh_channel_set_wanted(core_, &wanted_);
}

absl::StatusOr<bh_in_hand> UserChannel::EndGeneration(uint32_t generation, bh_end cause) {
  if (generation == 0 || generation != generation_ ||
      bh_channel_end_generation(core_, generation, cause) != 0) {
    return absl::NotFoundError(absl::StrCat("generation ", generation, " is not the active one"));
  }
  generation_ = 0;
  return InHand(generation);
}

bh_in_hand UserChannel::InHand(uint32_t generation) const {
  bh_in_hand in_hand = {};
  (void)bh_channel_in_hand(core_, generation, &in_hand);
  return in_hand;
}

void UserChannel::SetState(bool quarantined, bool draining) {
  bh_channel_set_quarantined(core_, quarantined ? 1 : 0);
  if (!quarantined && !draining) bh_channel_forgive(core_);
  bh_channel_set_draining(core_, draining ? 1 : 0);
}

absl::Status UserChannel::SetPolicy(const bh_policy& policy) {
  if (bh_channel_set_policy(core_, &policy) != 0) {
    return absl::InvalidArgumentError(
        "a policy rule has an unknown action, or a fallback other than allow and deny");
  }
  return absl::OkStatus();
}

bh_statistics UserChannel::Statistics() const {
  bh_statistics statistics = {};
  bh_channel_statistics(core_, &statistics);
  return statistics;
}

}  // namespace bulkhead
