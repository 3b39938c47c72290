// SPDX-License-Identifier: Apache-2.0
//
// UserPlatform: struct bh_platform in a user process: futexes, CLOCK_MONOTONIC, SCM_RIGHTS without
// waiting.
#ifndef BULKHEAD_SHIM_EMBEDDED_USER_PLATFORM_H_
#define BULKHEAD_SHIM_EMBEDDED_USER_PLATFORM_H_

#include <cstdint>

#include "shim/core/bulkhead_core.h"
#include "shim/embedded/denial_queue.h"
#include "shim/embedded/descriptor_route.h"
#include "shim/embedded/event_queue.h"

namespace bulkhead {

// The target of a channel's config.cookie; must outlive the channel.
struct ChannelCookie {
  uint32_t channel = 0;
  const DescriptorRoute* route = nullptr;
};

class UserPlatform {
 public:
  // `events` gets the events that channels raise, `denials` the denials; not owned.
  // `timed_every`: as in bh_platform.
  UserPlatform(EventQueue* events, DenialQueue* denials, uint32_t timed_every);
  UserPlatform(const UserPlatform&) = delete;
  UserPlatform& operator=(const UserPlatform&) = delete;

  const bh_platform* core() const { return &platform_; }
  EventQueue& events() { return *events_; }
  DenialQueue& denials() { return *denials_; }

 private:
  EventQueue* const events_;
  DenialQueue* const denials_;
  bh_platform platform_ = {};
};

}  // namespace bulkhead

#endif  // BULKHEAD_SHIM_EMBEDDED_USER_PLATFORM_H_
