// SPDX-License-Identifier: Apache-2.0
//
// Channel headers: any header of a shim is refused, or describes regions in which every slot and
// every chunk lies inside. The sizes are computed here a second time, with overflow checks.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "ipc/abi/channel.h"
#include "ipc/channel_header.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

uint64_t Sum(uint64_t a, uint64_t b) {
  uint64_t sum;
  Require(!__builtin_add_overflow(a, b, &sum));
  return sum;
}

uint64_t Product(uint64_t a, uint64_t b) {
  uint64_t product;
  Require(!__builtin_mul_overflow(a, b, &product));
  return product;
}

// `count` entries of `bytes` each from `offset` on; the pool begins at the next page.
uint64_t PoolOffset(uint64_t offset, uint64_t count, uint64_t bytes) {
  return Sum(Sum(offset, Product(count, bytes)), 4095) / 4096 * 4096;
}

void RequireInside(const bh_channel_header& header, const bh_geometry& geometry) {
  Require(geometry.lanes >= 1 && geometry.lanes <= BH_LANES_MAX);
  Require(geometry.slots_per_lane >= 1 && geometry.slots_per_lane <= BH_SLOTS_PER_LANE_MAX);
  Require(geometry.call_chunks <= BH_POOL_CHUNKS_MAX);
  Require(geometry.reply_chunks <= BH_POOL_CHUNKS_MAX);
  Require(geometry.lanes == header.lanes && geometry.slots_per_lane == header.slots_per_lane);
  Require(geometry.call_chunks == header.call_chunks);
  Require(geometry.reply_chunks == header.reply_chunks);

  const uint64_t slots = Product(geometry.lanes, geometry.slots_per_lane);
  const uint64_t call_pool = PoolOffset(4096, slots, sizeof(bh_call_slot));
  const uint64_t reply_pool = PoolOffset(4096, slots, sizeof(bh_reply_slot));
  const uint64_t call_bytes = Sum(call_pool, Product(geometry.call_chunks, BH_POOL_CHUNK_BYTES));
  const uint64_t reply_bytes = Sum(reply_pool, Product(geometry.reply_chunks, BH_POOL_CHUNK_BYTES));
  Require(bh_slot_count(&geometry) == slots);
  Require(bh_call_pool_offset(&geometry) == call_pool);
  Require(bh_reply_pool_offset(&geometry) == reply_pool);
  Require(header.call_bytes == call_bytes && bh_call_region_bytes(&geometry) == call_bytes);
  Require(header.reply_bytes == reply_bytes && bh_reply_region_bytes(&geometry) == reply_bytes);

  // Nothing overlaps: everything before the slots ends before them, each slot ends before the next
  // one, the last one before the pool.
  Require(sizeof(bh_channel_header) <= bh_call_slot_offset(0));
  Require(sizeof(bh_host_line) <= bh_reply_slot_offset(0));
  for (uint32_t slot = 0; slot < slots; ++slot) {
    const bool last = slot + 1 == slots;
    Require(bh_call_slot_offset(slot) % BH_CACHE_LINE == 0);
    Require(bh_reply_slot_offset(slot) % BH_CACHE_LINE == 0);
    Require(Sum(bh_call_slot_offset(slot), sizeof(bh_call_slot)) <=
            (last ? call_pool : bh_call_slot_offset(slot + 1)));
    Require(Sum(bh_reply_slot_offset(slot), sizeof(bh_reply_slot)) <=
            (last ? reply_pool : bh_reply_slot_offset(slot + 1)));
  }
}

void Try(const bh_channel_header& header) {
  const auto geometry = bulkhead::CheckChannelHeader(header);
  if (geometry.ok()) {
    Require(header.magic == BH_CHANNEL_MAGIC && header.abi_version == BH_ABI_VERSION);
    Require(header.notify_offset == 0);
    RequireInside(header, *geometry);
  } else {
    Require(absl::IsInvalidArgument(geometry.status()) && !geometry.status().message().empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  bh_channel_header header = {};
  if (bytes != 0) std::memcpy(&header, data, bytes < sizeof(header) ? bytes : sizeof(header));
  Try(header);
  // A forged header with the same geometry; its other fields agree with it.
  const bh_geometry claimed = {header.lanes, header.slots_per_lane, header.call_chunks,
                               header.reply_chunks};
  header.magic = BH_CHANNEL_MAGIC;
  header.abi_version = BH_ABI_VERSION;
  header.call_bytes = bh_call_region_bytes(&claimed);
  header.reply_bytes = bh_reply_region_bytes(&claimed);
  header.notify_offset = header.notify_bytes = 0;
  Try(header);
  return 0;
}
