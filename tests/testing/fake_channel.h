// SPDX-License-Identifier: Apache-2.0
// A world for the core's tests: a clock that moves when told, a platform that records, and a host
// that does to the shared memory exactly what the test makes it do.
#ifndef BULKHEAD_TESTS_TESTING_FAKE_CHANNEL_H_
#define BULKHEAD_TESTS_TESTING_FAKE_CHANNEL_H_

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "ipc/abi/atomics.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<void, FreeMemory>;

inline Memory ZeroedMemory(size_t bytes) {
  const size_t rounded = bh_page_align(bytes);
  Memory memory(std::aligned_alloc(4096, rounded));
  std::memset(memory.get(), 0, rounded);
  return memory;
}

struct SeenEvent {
  uint32_t event;
  uint32_t detail;
  uint32_t generation;
  uint64_t call_id;
  const void* cookie;  // of the channel
};

// For one thread.
class FakePlatform {
 public:
  FakePlatform() {
    c.context = this;
    c.now_ns = [](void* self) { return Self(self).now_ns; };
    c.coarse_ns = [](void* self) { return Self(self).now_ns - Self(self).coarse_behind_ns; };
    c.wait = [](void* self, uint32_t* word, uint32_t expected, int, uint64_t until_ns) {
      return Self(self).Wait(word, expected, until_ns);
    };
    c.wake = [](void* self, uint32_t* word, int, int waiters) {
      Self(self).wakes.push_back(word);
      Self(self).woken_counts.push_back(waiters);
      if (Self(self).on_wake) Self(self).on_wake(word);
    };
    c.send_descriptor = [](void* self, void*, uint32_t, uint64_t ticket, const bh_call*) {
      Self(self).sent_tickets.push_back(ticket);
      return Self(self).send_result;
    };
    c.event = [](void* self, void* cookie, uint32_t event, uint32_t detail, uint32_t generation,
                 uint64_t call_id) {
      Self(self).events.push_back({event, detail, generation, call_id, cookie});
    };
    c.denied = [](void* self, void*, const bh_call* call, const bh_denial_cause* cause) {
      if (!Self(self).has_room_for_denials) return -1;
      bh_denial_fill(&Self(self).denials.emplace_back(), call, cause);
      return 0;
    };
    c.cpu = [](void* self) { return Self(self).cpu; };
  }

  size_t Count(uint32_t event) const {
    size_t count = 0;
    for (const SeenEvent& seen : events) count += seen.event == event;
    return count;
  }
  bool Woke(const uint32_t* word) const {
    for (const uint32_t* woken : wakes)
      if (woken == word) return true;
    return false;
  }

  bh_platform c{};
  uint64_t now_ns = 1'000'000'000;
  uint64_t coarse_behind_ns = 0;  // at most BH_COARSE_NS
  uint32_t cpu = 0;
  int send_result = 0;
  uint64_t waits = 0;
  // What happens during a sleep; without it the clock jumps to the sleep's end.
  std::function<int(uint32_t* word, uint32_t expected, uint64_t until_ns)> on_wait;
  std::function<void(uint32_t* word)> on_wake;
  std::vector<uint32_t*> wakes;
  std::vector<int> woken_counts;  // how many sleepers each of these was for
  std::vector<SeenEvent> events;
  std::vector<bh_denial> denials;
  bool has_room_for_denials = true;
  std::vector<uint64_t> sent_tickets;

 private:
  static FakePlatform& Self(void* self) { return *static_cast<FakePlatform*>(self); }
  int Wait(uint32_t* word, uint32_t expected, uint64_t until_ns) {
    waits++;
    if (on_wait) return on_wait(word, expected, until_ns);
    if (*word == expected && until_ns > now_ns) now_ns = until_ns;
    return 0;
  }
};

inline bh_channel_config TestConfig() {
  bh_channel_config config;
  bh_channel_config_default(&config);
  config.spec.geometry = {2, 2, 4, 4};
  config.callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
  bh_set_add(&config.callbacks, BH_CALLBACK_FILE_EXEC);
  config.spec.spin_ns = 0;
  config.spec.cache_entries = 0;
  return config;
}

inline void SetRule(bh_policy* policy, uint32_t reason, uint32_t action, uint32_t fallback) {
  policy->rule[BH_CLASS_FILE][reason] = {static_cast<uint8_t>(action),
                                         static_cast<uint8_t>(fallback)};
}

// A channel, and the host's hands on its memory.
class FakeChannel {
 public:
  FakeChannel(FakePlatform* platform, const bh_channel_config& channel_config)
      : config(channel_config),
        call_region(ZeroedMemory(bh_call_region_bytes(&config.spec.geometry))),
        reply_region(ZeroedMemory(bh_reply_region_bytes(&config.spec.geometry))) {
    Init(&platform->c);
  }
  // Again for a take-over: the regions stay, the private memory is new.
  void Init(const bh_platform* platform) {
    private_memory = ZeroedMemory(bh_channel_private_bytes(&config));
    c = bh_channel_init(private_memory.get(), &config, platform, call_region.get(),
                        reply_region.get());
    ASSERT_NE(c, nullptr);
  }

  // 0, or -1: see bh_channel_begin_generation(). It wants what the config and the functions below
  // say.
  int BeginGeneration(uint32_t generation) {
    spec.generation = generation;
    return bh_channel_begin_generation(c, Spec());
  }
  void SetContent(uint64_t version) {
    spec.content_version = version;
    bh_channel_set_wanted(c, Spec());
  }
  void SetNotifications(const bh_callback_set& kinds) {
    spec.notifications = kinds;
    bh_channel_set_wanted(c, Spec());
  }
  const bh_generation_spec* Spec() {
    spec.callbacks = config.callbacks;
    spec.descriptor_callbacks = config.descriptor_callbacks;
    return &spec;
  }

  bh_call_slot* Call(uint32_t slot) {
    return At<bh_call_slot>(call_region, bh_call_slot_offset(slot));
  }
  bh_reply_slot* Reply(uint32_t slot) {
    return At<bh_reply_slot>(reply_region, bh_reply_slot_offset(slot));
  }
  bh_host_line* Host() { return At<bh_host_line>(reply_region, 0); }

  // The driver has the slot's call from here on.
  void Begin(uint32_t slot) {
    bh_store_release(&Reply(slot)->begun, bh_load_acquire(&Call(slot)->ticket));
  }
  void Answer(uint32_t slot, uint32_t verdict, uint32_t cacheability = BH_CACHE_NOT,
              uint32_t error = 0) {
    AnswerTicket(slot, bh_load_acquire(&Call(slot)->ticket), verdict, cacheability, error);
  }
  void AnswerTicket(uint32_t slot, uint64_t ticket, uint32_t verdict, uint32_t cacheability,
                    uint32_t error = 0) {
    const bh_verdict_reply reply = {verdict, static_cast<uint16_t>(cacheability),
                                    static_cast<uint16_t>(error)};
    Reply(slot)->status = BH_REPLY_DONE;
    Reply(slot)->reply_bytes = sizeof(reply);
    std::memcpy(Reply(slot)->reply, &reply, sizeof(reply));
    bh_store_release(&Reply(slot)->ticket, ticket);
  }
  void Decline(uint32_t slot) {
    Reply(slot)->status = BH_REPLY_DECLINED;
    bh_store_release(&Reply(slot)->ticket, Call(slot)->ticket);
  }
  bh_statistics Statistics() {
    bh_statistics statistics;
    bh_channel_statistics(c, &statistics);
    return statistics;
  }

  bh_channel_config config;
  bh_generation_spec spec = {};
  Memory call_region;
  Memory reply_region;
  Memory private_memory;
  bh_channel* c = nullptr;

 private:
  template <typename T>
  static T* At(const Memory& memory, size_t offset) {
    return reinterpret_cast<T*>(static_cast<uint8_t*>(memory.get()) + offset);
  }
};

inline bh_call FileCall(uint64_t inode, uint64_t deadline_ns,
                        uint32_t callback = BH_CALLBACK_FILE_OPEN) {
  bh_file_args args{};
  args.device = 1;
  args.inode = inode;
  args.change = 1;
  bh_call call{};
  call.callback = callback;
  call.args_bytes = sizeof(args);
  std::memcpy(call.args, &args, sizeof(args));
  call.descriptor = -1;
  call.deadline_ns = deadline_ns;
  return call;
}

// Visits that have ended; equals `calls` when none is pending.
inline uint64_t EndedVisits(const bh_statistics& statistics) {
  uint64_t ended =
      statistics.answered + statistics.cached + statistics.cancelled + statistics.unknown;
  for (uint64_t by_policy : statistics.by_policy) ended += by_policy;
  return ended;
}

// One channel below one shim, and calls that are stepped by hand.
class CoreTest : public ::testing::Test {
 protected:
  explicit CoreTest(const bh_channel_config& config = TestConfig()) : channel(&platform, config) {
    Use(&channel);
  }
  void Use(FakeChannel* used) {
    bh_shim_init(&shim, &platform.c);
    bh_shim_add(&shim, used->c);
  }
  void SetPolicy(uint32_t reason, uint32_t action, uint32_t fallback) {
    SetRule(&channel.config.spec.policy, reason, action, fallback);
    ASSERT_EQ(bh_channel_set_policy(channel.c, &channel.config.spec.policy), 0);
  }
  bh_call NewCall(uint64_t inode = 7) { return FileCall(inode, platform.now_ns + 1000); }
  // Started and stepped once.
  int Start(bh_call* call) {
    bh_call_start(&shim, call);
    return Step(call);
  }
  int Step(bh_call* call) { return bh_call_step(call, platform.now_ns, &wait); }
  static void ExpectPolicy(const bh_call& call, uint32_t reason, uint32_t verdict) {
    EXPECT_EQ(call.outcome, BH_OUTCOME_POLICY);
    EXPECT_EQ(call.reason, reason);
    EXPECT_EQ(call.verdict, verdict);
  }

  FakePlatform platform;
  FakeChannel channel;
  bh_shim shim;
  bh_wait wait{};
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_TESTING_FAKE_CHANNEL_H_
