// SPDX-License-Identifier: Apache-2.0
#include "ipc/channel_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

bh_channel_header HeaderOf(const bh_geometry& geometry) {
  bh_channel_header header = {};
  header.magic = BH_CHANNEL_MAGIC;
  header.abi_version = BH_ABI_VERSION;
  header.lanes = geometry.lanes;
  header.slots_per_lane = geometry.slots_per_lane;
  header.call_chunks = geometry.call_chunks;
  header.reply_chunks = geometry.reply_chunks;
  header.call_bytes = bh_call_region_bytes(&geometry);
  header.reply_bytes = bh_reply_region_bytes(&geometry);
  return header;
}

constexpr bh_geometry kSmall = {
    .lanes = 2, .slots_per_lane = 4, .call_chunks = 3, .reply_chunks = 5};

// The message of the refusal, or "accepted".
template <typename Change>
std::string Refusal(Change change) {
  bh_channel_header header = HeaderOf(kSmall);
  change(&header);
  const auto geometry = CheckChannelHeader(header);
  if (geometry.ok()) return "accepted";
  EXPECT_EQ(geometry.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(geometry.status().message());
}

using Header = bh_channel_header;

TEST(ChannelHeader, GeometryIsTheHeaders) {
  constexpr bh_geometry kLargest = {BH_LANES_MAX, BH_SLOTS_PER_LANE_MAX, BH_POOL_CHUNKS_MAX,
                                    BH_POOL_CHUNKS_MAX};
  constexpr bh_geometry kSmallest = {1, 1, 0, 0};
  for (const bh_geometry& wanted : {kSmall, kLargest, kSmallest}) {
    const auto geometry = CheckChannelHeader(HeaderOf(wanted));
    ASSERT_TRUE(geometry.ok()) << geometry.status();
    EXPECT_EQ(geometry->lanes, wanted.lanes);
    EXPECT_EQ(geometry->slots_per_lane, wanted.slots_per_lane);
    EXPECT_EQ(geometry->call_chunks, wanted.call_chunks);
    EXPECT_EQ(geometry->reply_chunks, wanted.reply_chunks);
  }
}

TEST(ChannelHeader, OtherMemoryIsNoChannel) {
  EXPECT_THAT(Refusal([](Header* h) { h->magic ^= 1; }), HasSubstr("wrong magic number"));
  EXPECT_THAT(Refusal([](Header* h) { *h = {}; }), HasSubstr("wrong magic number"));
}

TEST(ChannelHeader, AnotherAbiVersionIsNamed) {
  EXPECT_THAT(Refusal([](Header* h) { h->abi_version = 7; }), HasSubstr("has ABI version 7"));
  EXPECT_THAT(Refusal([](Header* h) { h->abi_version = 0; }),
              HasSubstr("install shim and host of one release"));
}

// The sizes match the geometry, as in a forged header: the bounds alone must refuse it.
TEST(ChannelHeader, GeometryHasBounds) {
  const auto refusal = [](uint32_t bh_geometry::*field, uint32_t value) {
    bh_geometry geometry = kSmall;
    geometry.*field = value;
    return Refusal([&](Header* h) { *h = HeaderOf(geometry); });
  };
  for (const auto field : {&bh_geometry::lanes, &bh_geometry::slots_per_lane}) {
    for (const uint32_t value : {0u, 65u, 0x8000'0000u, UINT32_MAX}) {
      EXPECT_THAT(refusal(field, value), HasSubstr("impossible geometry")) << value;
    }
  }
  for (const auto field : {&bh_geometry::call_chunks, &bh_geometry::reply_chunks}) {
    for (const uint32_t value : {4097u, UINT32_MAX}) {
      EXPECT_THAT(refusal(field, value), HasSubstr("impossible geometry")) << value;
    }
  }
}

TEST(ChannelHeader, SizesAreThoseOfTheGeometry) {
  EXPECT_THAT(Refusal([](Header* h) { h->call_bytes += 4096; }), HasSubstr("contradicts itself"));
  EXPECT_THAT(Refusal([](Header* h) { h->call_bytes = 0; }), HasSubstr("contradicts itself"));
  EXPECT_THAT(Refusal([](Header* h) { h->reply_bytes -= 1; }), HasSubstr("contradicts itself"));
  EXPECT_THAT(Refusal([](Header* h) { h->reply_bytes = UINT64_MAX; }),
              HasSubstr("contradicts itself"));
}

TEST(ChannelHeader, NotificationRingsAreUnknown) {
  EXPECT_THAT(Refusal([](Header* h) { h->notify_offset = 4096; }), HasSubstr("notification ring"));
}

TEST(ChannelHeader, ReservedFlagsAreIgnored) {
  EXPECT_EQ(Refusal([](Header* h) { h->reserved_flags = UINT32_MAX; }), "accepted");
}

}  // namespace
}  // namespace bulkhead
