// SPDX-License-Identifier: Apache-2.0
//
// The worked example in docs/wire-format.md, held against what the code writes and reads. The bytes
// are taken from the page itself, so neither can change without the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "ipc/abi/channel.h"
#include "ipc/generation_spec.h"
#include "shim/core/bulkhead_core.h"

namespace bulkhead {
namespace {

using ::testing::ElementsAreArray;
using ::testing::SizeIs;

// One fenced block of the page: the offset of its first line, and its bytes.
struct HexBlock {
  size_t offset = 0;
  std::vector<uint8_t> bytes;
};

// Reads the lines that look like "0008  01 01    what it means" out of every fenced block.
std::vector<HexBlock> HexBlocks(std::istream& page) {
  std::vector<HexBlock> blocks;
  std::string line;
  bool fenced = false;
  HexBlock block;
  while (std::getline(page, line)) {
    if (line.starts_with("```")) {
      if (fenced && !block.bytes.empty()) blocks.push_back(block);
      fenced = !fenced;
      block = HexBlock();
      continue;
    }
    if (!fenced || line.size() < 8 || line.substr(4, 2) != "  ") continue;
    const std::string head = line.substr(0, 4);
    if (head.find_first_not_of("0123456789abcdef") != std::string::npos) continue;
    const size_t offset = std::stoul(head, nullptr, 16);
    if (block.bytes.empty()) block.offset = offset;
    EXPECT_EQ(offset, block.offset + block.bytes.size()) << "a gap in the example: " << line;
    std::istringstream words(line.substr(6, line.find("  ", 6) - 6));
    for (std::string word; words >> word;) {
      block.bytes.push_back(static_cast<uint8_t>(std::stoul(word, nullptr, 16)));
    }
  }
  return blocks;
}

struct Freer {
  void operator()(void* memory) const { std::free(memory); }
};
using Region = std::unique_ptr<uint8_t, Freer>;

Region MakeRegion(size_t bytes) {
  const size_t rounded = bh_page_align(bytes);
  auto* memory = static_cast<uint8_t*>(std::aligned_alloc(4096, rounded));
  std::memset(memory, 0, rounded);
  return Region(memory);
}

bh_platform StillPlatform() {
  bh_platform platform = {};
  platform.now_ns = [](void*) -> uint64_t { return 1'000; };
  platform.wait = [](void*, uint32_t*, uint32_t, int, uint64_t) { return -1; };
  platform.wake = [](void*, uint32_t*, int, int) {};
  platform.send_descriptor = [](void*, void*, uint32_t, uint64_t, const bh_call*) { return -2; };
  platform.event = [](void*, void*, uint32_t, uint32_t, uint32_t, uint64_t) { ADD_FAILURE(); };
  platform.cpu = [](void*) -> uint32_t { return 0; };
  return platform;
}

std::vector<uint8_t> Bytes(const uint8_t* from, size_t count) { return {from, from + count}; }

TEST(WireExample, IsWhatTheShimWritesAndReads) {
  const char* path = std::getenv("BULKHEAD_WIRE_FORMAT");
  ASSERT_NE(path, nullptr);
  std::ifstream page(path);
  ASSERT_TRUE(page) << path;
  const std::vector<HexBlock> blocks = HexBlocks(page);
  ASSERT_THAT(blocks, SizeIs(3)) << "call line 0, call line 1, reply line 0";

  bh_channel_config config;
  bh_channel_config_default(&config);
  config.spec.geometry = {.lanes = 1, .slots_per_lane = 1, .call_chunks = 1, .reply_chunks = 0};
  config.callbacks = bh_set_of(BH_CALLBACK_FILE_OPEN);
  const bh_platform platform = StillPlatform();
  Region call_region = MakeRegion(bh_call_region_bytes(&config.spec.geometry));
  Region reply_region = MakeRegion(bh_reply_region_bytes(&config.spec.geometry));
  Region memory = MakeRegion(bh_channel_private_bytes(&config));
  bh_channel* channel =
      bh_channel_init(memory.get(), &config, &platform, call_region.get(), reply_region.get());
  ASSERT_NE(channel, nullptr);
  bh_shim shim;
  bh_shim_init(&shim, &platform);
  ASSERT_EQ(bh_shim_add(&shim, channel), 0);
  const bh_generation_spec spec = GenerationSpec(3, config.callbacks);
  ASSERT_EQ(bh_channel_begin_generation(channel, &spec), 0);

  const bh_file_args args = {.pid = 4242,
                             .uid = 1000,
                             .device = 0xfe00,
                             .inode = 131,
                             .change = 1'700'000'000'123'456'789,
                             .size = 68,
                             .gid = 1000,
                             .open_flags = 0};
  const std::string name = "/tmp/a";
  bh_call call = {};
  call.callback = BH_CALLBACK_FILE_OPEN;
  call.args_bytes = sizeof(args);
  std::memcpy(call.args, &args, sizeof(args));
  call.payload = name.data();
  call.payload_bytes = name.size();
  call.descriptor = -1;
  call.deadline_ns = 10'000'000'000;
  bh_call_start(&shim, &call);
  bh_wait wait;
  ASSERT_EQ(bh_call_step(&call, 1'000, &wait), 0);

  const uint8_t* slot = call_region.get() + bh_call_slot_offset(0);
  EXPECT_EQ(blocks[0].offset, 0u);
  EXPECT_THAT(Bytes(slot, 64), ElementsAreArray(blocks[0].bytes));
  EXPECT_EQ(blocks[1].offset, 64u);
  EXPECT_THAT(Bytes(slot + 64, blocks[1].bytes.size()), ElementsAreArray(blocks[1].bytes));
  EXPECT_EQ(std::memcmp(call_region.get() + bh_call_pool_offset(&config.spec.geometry), name.data(),
                        name.size()),
            0);

  uint8_t* reply = reply_region.get() + bh_reply_slot_offset(0);
  std::memcpy(reply, blocks[2].bytes.data(), blocks[2].bytes.size());
  ASSERT_EQ(bh_call_step(&call, 2'000, &wait), 1);
  EXPECT_EQ(call.outcome, uint32_t{BH_OUTCOME_ANSWERED});
  EXPECT_EQ(call.verdict, uint32_t{BH_VERDICT_DENY});
}

}  // namespace
}  // namespace bulkhead
