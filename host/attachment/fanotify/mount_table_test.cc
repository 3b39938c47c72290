// SPDX-License-Identifier: Apache-2.0
#include "host/attachment/fanotify/mount_table.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/testing/guarded_volume_fixture.h"

namespace bulkhead {
namespace {

TEST(MountTable, HasTheRootOfThisMachine) {
  const absl::StatusOr<std::vector<MountEntry>> mounts = ReadMounts();
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  EXPECT_TRUE(std::any_of(mounts->begin(), mounts->end(),
                          [](const MountEntry& mount) { return mount.point == "/"; }));
}

TEST(MountTable, HasAPlaceWhoseNameIsWrittenOtherwiseThere) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  absl::StatusOr<GuardedVolume> volume = GuardedVolume::Mount();
  if (!volume.ok()) GTEST_SKIP() << volume.status();
  const std::string place = volume->path() + "/a place\twith \\040 blanks";
  const std::string part = volume->path() + "/part";
  std::filesystem::create_directories(place);
  std::filesystem::create_directories(part + "/of it");
  ASSERT_EQ(mount((part + "/of it").c_str(), place.c_str(), nullptr, MS_BIND, nullptr), 0)
      << std::strerror(errno);
  const absl::StatusOr<std::vector<MountEntry>> mounts = ReadMounts();
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  const auto found = std::find_if(mounts->begin(), mounts->end(),
                                  [&](const MountEntry& mount) { return mount.point == place; });
  ASSERT_NE(found, mounts->end());
  EXPECT_EQ(found->root, "/part/of it");
  const auto whole = std::find_if(mounts->begin(), mounts->end(), [&](const MountEntry& mount) {
    return mount.point == volume->path();
  });
  ASSERT_NE(whole, mounts->end());
  EXPECT_EQ(whole->root, "/");
  EXPECT_EQ(whole->type, "tmpfs");
  EXPECT_NE(whole->id, found->id);
}

}  // namespace
}  // namespace bulkhead
