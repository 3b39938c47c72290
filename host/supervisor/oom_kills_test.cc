// SPDX-License-Identifier: Apache-2.0
#include "host/supervisor/oom_kills.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

class OomKillsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/oom-kills-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    Write("proc/vmstat", "nr_free_pages 1\noom_kill 7\noom_killer_disabled 9\n");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = std::filesystem::path(folder_) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::optional<uint64_t> Count() const { return OomKills(folder_ + "/proc", folder_ + "/cgroup"); }

  std::string folder_;
};

TEST_F(OomKillsTest, AreThoseOfTheControlGroup) {
  Write("proc/self/cgroup", "1:name=systemd:/old\n0::/system.slice/bulkhead.service\n");
  EXPECT_EQ(Count(), 7u) << "the group counts nothing";
  Write("cgroup/system.slice/bulkhead.service/memory.events",
        "low 1\noom 4\noom_kill 3\noom_group_kill 2\n");
  EXPECT_EQ(Count(), 3u);
}

TEST_F(OomKillsTest, AreThoseOfTheMachineWithoutSuchAGroup) {
  EXPECT_EQ(Count(), 7u) << "no control groups";
  Write("proc/self/cgroup", "4:memory:/somewhere\n");
  EXPECT_EQ(Count(), 7u) << "version 1 only";
}

TEST_F(OomKillsTest, AreNoneWhereNobodyCounts) {
  Write("proc/vmstat", "nr_free_pages 1\noom_kill many\n");
  EXPECT_EQ(Count(), std::nullopt);
}

}  // namespace
}  // namespace bulkhead
