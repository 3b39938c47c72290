// SPDX-License-Identifier: Apache-2.0
#include "host/service/hosts_scope.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace bulkhead {
namespace {

namespace fs = std::filesystem;

TEST(HostsScope, IsBesideTheServiceOfVersion2) {
  const HostsScope scope = HostsScope::Of("0::/system.slice/bulkhead.service\n", "/groups");
  EXPECT_EQ(scope.unit, "bulkhead-hosts.scope");
  EXPECT_EQ(scope.folder, "/groups/system.slice/bulkhead-hosts.scope");
  EXPECT_EQ(scope.members, scope.folder + "/bulkhead-service/cgroup.procs");
  EXPECT_EQ(HostsScope::Of("0::/a.slice/a-b.slice/other.service\n", "/groups").folder,
            "/groups/a.slice/a-b.slice/other-hosts.scope");
}

TEST(HostsScope, IsNoneWhereSystemdMadeNoServiceOfThisProcess) {
  for (const char* groups :
       {"", "0::/\n", "0::/bulkhead.service\n", "0::/user.slice/session-1.scope\n",
        "0::/machine/a.service\n", "0::/system.slice/bulkhead.service/bulkhead-service\n",
        "4:memory:/system.slice/bulkhead.service\n0::/system.slice/bulkhead.service\n",
        "0::/system.slice/bulkhead.service\n1:name=systemd:/system.slice/bulkhead.service\n"}) {
    EXPECT_EQ(HostsScope::Of(groups).unit, "") << groups;
  }
}

// The scope of a service before: its store has ended, and another process is still in it.
TEST(HostsScope, OneThatIsThereTakesTheStore) {
  const std::string mount = testing::TempDir() + "/hosts-scope-" + std::to_string(getpid());
  const HostsScope scope = HostsScope::Of("0::/system.slice/bulkhead.service\n", mount);
  fs::create_directories(fs::path(scope.members).parent_path());
  std::ofstream(scope.members) << "";
  EXPECT_TRUE(scope.Enter(getpid()).ok());
  std::string id;
  std::ifstream(scope.members) >> id;
  EXPECT_EQ(id, std::to_string(getpid()));
  fs::remove_all(mount);
}

}  // namespace
}  // namespace bulkhead
