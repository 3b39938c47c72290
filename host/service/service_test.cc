// SPDX-License-Identifier: Apache-2.0
#include "host/service/service.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "ipc/monotonic.h"
#include "shim/embedded/embedded_shim.h"

namespace bulkhead {
namespace {

TEST(Service, OpensItsMemoryToNoOtherProcess) {
  const char* build = std::getenv("BULKHEAD_BUILD");
  ASSERT_NE(build, nullptr);
  ServiceConfig config;
  config.drivers = {{.driver = std::string(build) + "/drivers/null"}};
  auto made = EmbeddedShim::Create({});
  ASSERT_TRUE(made.ok()) << made.status();
  const std::shared_ptr<EmbeddedShim> shim = *std::move(made);
  ASSERT_EQ(prctl(PR_GET_DUMPABLE), 1) << "of a program that was just started";
  const auto service = Service::Start({.host_program = std::string(build) + "/bin/bulkhead-host",
                                       .now_ns = MonotonicNowNs,
                                       .chance = [] { return uint64_t{0}; },
                                       .on_event = {}},
                                      config, shim, "embedded");
  ASSERT_TRUE(service.ok()) << service.status();
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
}

}  // namespace
}  // namespace bulkhead
