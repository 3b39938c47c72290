// SPDX-License-Identifier: Apache-2.0
//
// Replies: a call with a reply region full of anything that a host can write. The call always ends
// by its deadline with a legal verdict, and only a valid answer counts. Answers of another class,
// which no driver can register for yet, are checked by the validator alone.
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "ipc/abi/channel.h"
#include "shim/core/bulkhead_core.h"
#include "shim/core/reply.h"

namespace {

struct World {
  uint64_t now_ns = 1'000;
};

bh_platform PlatformOf(World* world) {
  bh_platform platform = {};
  platform.context = world;
  platform.now_ns = [](void* context) { return static_cast<World*>(context)->now_ns; };
  platform.coarse_ns = platform.now_ns;
  platform.wait = [](void* context, uint32_t*, uint32_t, int, uint64_t until_ns) {
    static_cast<World*>(context)->now_ns = until_ns;
    return 0;
  };
  platform.wake = [](void*, uint32_t*, int, int) {};
  platform.send_descriptor = [](void*, void*, uint32_t, uint64_t, const bh_call*) { return 0; };
  platform.event = [](void*, void*, uint32_t, uint32_t, uint32_t, uint64_t) {};
  platform.cpu = [](void*) -> uint32_t { return 0; };
  return platform;
}

// Memory for a channel; kept from run to run, zeroed each time.
class Region {
 public:
  explicit Region(size_t bytes)
      : bytes_(bh_page_align(bytes)),
        data_(static_cast<uint8_t*>(std::aligned_alloc(4096, bytes_))) {}
  ~Region() { std::free(data_); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  uint8_t* Zeroed() {
    std::memset(data_, 0, bytes_);
    return data_;
  }

 private:
  const size_t bytes_;
  uint8_t* const data_;
};

void Require(bool condition) {
  if (!condition) std::abort();
}

// The first byte of an input: the kind of the call, and whether the ticket is right.
constexpr uint8_t kRightTicket = 1, kLendsRoom = 2;
constexpr int kClassShift = 2;
// The last byte of the lent room is the last of its array: ASan reports an access beyond it.
constexpr size_t kReplyCapacity = 100;

// All conditions of a legal answer, written a second time.
bool Legal(const bh_reply_slot& slot, uint32_t klass, uint64_t capacity) {
  if (slot.status == BH_REPLY_DECLINED) return true;
  if (slot.status != BH_REPLY_DONE || slot.reply_bytes > BH_INLINE_BYTES) return false;
  if (capacity != 0 && slot.payload_bytes > capacity) return false;
  if (klass != BH_CLASS_FILE) return true;
  bh_verdict_reply verdict;
  std::memcpy(&verdict, slot.reply, sizeof(verdict));
  return slot.reply_bytes >= sizeof(verdict) &&
         (verdict.verdict == BH_VERDICT_ALLOW || verdict.verdict == BH_VERDICT_DENY) &&
         (verdict.cacheability == BH_CACHE_NOT || verdict.cacheability == BH_CACHE_OBJECT) &&
         (verdict.error == 0 || (verdict.verdict == BH_VERDICT_DENY && verdict.error <= 133 &&
                                 verdict.error != ECHILD && verdict.error != ESTALE));
}

void Judge(const bh_reply_slot& slot, uint32_t klass, uint64_t capacity) {
  const bh_reply_facts facts = {.callback = klass << 8 | 1, .reply_capacity = capacity};
  bh_reply_copy copy;
  bh_reply_copy_once(&slot, &facts, &copy);
  const uint32_t violation = bh_reply_validate(&copy, &facts);
  Require((violation == BH_VIOLATION_NONE) == Legal(slot, klass, capacity));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  World world;
  const bh_platform platform = PlatformOf(&world);
  bh_channel_config config;
  bh_channel_config_default(&config);
  config.spec.geometry = {.lanes = 1, .slots_per_lane = 2, .call_chunks = 1, .reply_chunks = 1};
  config.callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
  config.spec.cache_entries = 0;
  static Region call_region(bh_call_region_bytes(&config.spec.geometry));
  static Region reply_region(bh_reply_region_bytes(&config.spec.geometry));
  static Region memory(bh_channel_private_bytes(&config));
  uint8_t* calls = call_region.Zeroed();
  uint8_t* replies = reply_region.Zeroed();
  bh_channel* channel = bh_channel_init(memory.Zeroed(), &config, &platform, calls, replies);
  Require(channel != nullptr);
  bh_shim shim;
  bh_shim_init(&shim, &platform);
  bh_generation_spec spec = {};
  spec.generation = 1;
  spec.callbacks = config.callbacks;
  Require(bh_shim_add(&shim, channel) == 0 && bh_channel_begin_generation(channel, &spec) == 0);

  bh_call call = {};
  call.callback = BH_CALLBACK_FILE_OPEN;
  call.args_bytes = BH_INLINE_BYTES;
  call.descriptor = -1;
  call.deadline_ns = 1'000'000;
  const uint8_t first = bytes != 0 ? data[0] : uint8_t{0};
  static std::array<uint8_t, kReplyCapacity> answer;
  if ((first & kLendsRoom) != 0) {
    call.reply_capacity = answer.size();
    call.reply_payload = answer.data();
  }
  bh_call_start(&shim, &call);
  bh_wait wait;
  Require(bh_call_step(&call, world.now_ns, &wait) == 0);
  // The host's turn: the bytes after the first overwrite its lines.
  const uint64_t ticket = reinterpret_cast<bh_call_slot*>(calls + bh_call_slot_offset(0))->ticket;
  size_t used = bytes < 2 ? bytes : 1;
  const auto scribble = [&](size_t offset, size_t room) {
    const size_t count = bytes - used < room ? bytes - used : room;
    std::memcpy(replies + offset, data + used, count);
    used += count;
  };
  scribble(bh_reply_slot_offset(0), 2 * BH_CACHE_LINE);
  scribble(0, sizeof(bh_host_line));
  scribble(bh_reply_slot_offset(0) + 2 * BH_CACHE_LINE, sizeof(bh_reply_slot) - 2 * BH_CACHE_LINE);
  auto* reply = reinterpret_cast<bh_reply_slot*>(replies + bh_reply_slot_offset(0));
  if ((first & kRightTicket) != 0) reply->ticket = ticket;
  const bool answers = reply->ticket == ticket;
  const bool legal = Legal(*reply, BH_CLASS_FILE, call.reply_capacity);
  Judge(*reply, first >> kClassShift, call.reply_capacity);

  int ended = 0;
  for (int i = 0; i < 10'000 && !ended; ++i) {
    ended = bh_call_step(&call, world.now_ns, &wait);
    if (!ended) world.now_ns = wait.until_ns > world.now_ns ? wait.until_ns : world.now_ns + 1;
  }
  Require(ended && call.verdict >= BH_VERDICT_ALLOW && call.verdict <= BH_VERDICT_DENY);
  Require(call.ended_ns <= call.deadline_ns + 2);
  if (call.outcome == BH_OUTCOME_ANSWERED) {
    Require(answers && legal && reply->status == BH_REPLY_DONE);
    Require(call.reply_payload_bytes <= call.reply_capacity);
  }
  Require(bh_call_step(&call, world.now_ns + 1, &wait) == 1);
  return 0;
}
