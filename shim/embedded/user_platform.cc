// SPDX-License-Identifier: Apache-2.0
#include "shim/embedded/user_platform.h"

#include <sched.h>

#include "ipc/futex.h"
#include "ipc/monotonic.h"

namespace bulkhead {
namespace {

FutexScope ScopeOf(int shared) { return shared != 0 ? FutexScope::kShared : FutexScope::kPrivate; }

uint64_t Now(void*) { return MonotonicNowNs(); }
uint64_t Coarse(void*) { return MonotonicCoarseNs(); }

int Wait(void*, uint32_t* word, uint32_t expected, int shared, uint64_t until_ns) {
  FutexWait(word, expected, ScopeOf(shared), until_ns);
  return 0;  // a user process that is being killed does not return from its wait
}

void Wake(void*, uint32_t* word, int shared, int waiters) {
  FutexWake(word, ScopeOf(shared), waiters);
}

int SendDescriptor(void*, void* cookie, uint32_t slot, uint64_t ticket, const bh_call* call) {
  return static_cast<const ChannelCookie*>(cookie)->route->Send(slot, ticket, call->descriptor);
}

void Event(void* context, void* cookie, uint32_t event, uint32_t detail, uint32_t generation,
           uint64_t call_id) {
  static_cast<UserPlatform*>(context)->events().Post(
      {.channel = static_cast<ChannelCookie*>(cookie)->channel,
       .event = event,
       .detail = detail,
       .generation = generation,
       .call_id = call_id});
}

int Denied(void* context, void* cookie, const bh_call* call, const bh_denial_cause* cause) {
  const uint32_t channel = static_cast<ChannelCookie*>(cookie)->channel;
  return static_cast<UserPlatform*>(context)->denials().Post(channel, *call, *cause) ? 0 : -1;
}

uint32_t Cpu(void*) {
  const int cpu = sched_getcpu();  // a load from the thread's rseq area, no system call
  return cpu < 0 ? 0 : static_cast<uint32_t>(cpu);
}

}  // namespace

UserPlatform::UserPlatform(EventQueue* events, DenialQueue* denials, uint32_t timed_every)
    : events_(events), denials_(denials) {
  platform_.context = this;
  platform_.now_ns = &Now;
  platform_.coarse_ns = &Coarse;
  platform_.timed_every = timed_every;
  platform_.wait = &Wait;
  platform_.wake = &Wake;
  platform_.send_descriptor = &SendDescriptor;
  platform_.event = &Event;
  platform_.denied = &Denied;
  platform_.cpu = &Cpu;
}

}  // namespace bulkhead
