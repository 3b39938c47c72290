// SPDX-License-Identifier: Apache-2.0
#include "ipc/channel_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstdint>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead {
namespace {

constexpr bh_geometry kGeometry = {2, 16, 8, 4};

TEST(ChannelMemory, HasBothRegionsZeroedAndAligned) {
  auto memory = ChannelMemory::Create(kGeometry);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->call_region()) % 4096, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->reply_region()) % 4096, 0u);
  const auto* call = static_cast<const uint8_t*>(memory->call_region());
  for (size_t i = 0; i < bh_call_region_bytes(&kGeometry); ++i) ASSERT_EQ(call[i], 0);
  EXPECT_EQ(memory->geometry().slots_per_lane, 16u);
}

TEST(ChannelMemory, RefusesImpossibleGeometry) {
  for (const bh_geometry& geometry :
       {bh_geometry{0, 1, 0, 0}, bh_geometry{1, 0, 0, 0}, bh_geometry{BH_LANES_MAX + 1, 1, 0, 0},
        bh_geometry{1, BH_SLOTS_PER_LANE_MAX + 1, 0, 0},
        bh_geometry{1, 1, BH_POOL_CHUNKS_MAX + 1, 0},
        bh_geometry{1, 1, 0, BH_POOL_CHUNKS_MAX + 1}}) {
    EXPECT_EQ(ChannelMemory::Create(geometry).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(ChannelMemory, SmallestAndLargestCanBeMade) {
  EXPECT_TRUE(ChannelMemory::Create({1, 1, 0, 0}).ok());
  EXPECT_TRUE(
      ChannelMemory::Create({BH_LANES_MAX, BH_SLOTS_PER_LANE_MAX, BH_POOL_CHUNKS_MAX, 1}).ok());
}

TEST(ChannelMemory, AHostCanReadTheOneAndWriteTheOtherRegion) {
  auto memory = ChannelMemory::Create(kGeometry);
  ASSERT_TRUE(memory.ok()) << memory.status();
  auto descriptors = memory->Descriptors();
  ASSERT_TRUE(descriptors.ok()) << descriptors.status();
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
  EXPECT_EQ(fcntl(descriptors->call_region.get(), F_GET_SEALS) & (kSeals | F_SEAL_FUTURE_WRITE),
            kSeals | F_SEAL_FUTURE_WRITE);
  EXPECT_EQ(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptors->call_region.get(), 0),
      MAP_FAILED);
  auto reply = SharedMemory::MapChecked(std::move(descriptors->reply_region),
                                        bh_reply_region_bytes(&kGeometry),
                                        SharedMemory::Access::kReadWrite, kSeals);
  ASSERT_TRUE(reply.ok()) << reply.status();
  reply->data()[100] = std::byte{5};
  EXPECT_EQ(static_cast<uint8_t*>(memory->reply_region())[100], 5);
}

}  // namespace
}  // namespace bulkhead
