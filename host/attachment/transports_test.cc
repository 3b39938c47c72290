// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/transports.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ipc/channel_memory.h"

namespace bulkhead {
namespace {

using ::testing::HasSubstr;

TEST(HostTransports, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const HostTransportKind* kind : HostTransports()) {
    EXPECT_TRUE(names.insert(kind->name).second) << kind->name;
    EXPECT_NE(kind->recognizes, nullptr) << kind->name;
    EXPECT_NE(kind->map, nullptr) << kind->name;
  }
}

TEST(HostTransports, KnowASealedRegionByItsDescriptor) {
  const bh_geometry geometry = {
      .lanes = 1, .slots_per_lane = 1, .call_chunks = 0, .reply_chunks = 0};
  absl::StatusOr<ChannelMemory> memory = ChannelMemory::Create(geometry);
  ASSERT_TRUE(memory.ok()) << memory.status();
  absl::StatusOr<ChannelDescriptors> regions = memory->Descriptors();
  ASSERT_TRUE(regions.ok()) << regions.status();
  const absl::StatusOr<const HostTransportKind*> kind = TransportOf(regions->call_region.get());
  ASSERT_TRUE(kind.ok()) << kind.status();
  EXPECT_STREQ((*kind)->name, "futex");
  EXPECT_TRUE((*kind)->ioctls.empty()) << "futexes need none";
}

TEST(HostTransports, RefuseADescriptorThatIsNoChannels) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd left(ends[0]);
  const UniqueFd right(ends[1]);
  for (const int fd : {left.get(), -1}) {
    const absl::StatusOr<const HostTransportKind*> kind = TransportOf(fd);
    ASSERT_FALSE(kind.ok());
    EXPECT_TRUE(absl::IsInvalidArgument(kind.status())) << kind.status();
    EXPECT_THAT(std::string(kind.status().message()), HasSubstr("(futex, module)"));
  }
}

}  // namespace
}  // namespace bulkhead
