// SPDX-License-Identifier: Apache-2.0
#include "host/cli/service.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <atomic>
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
  std::atomic<bool> interrupted{false};
  Program program;
  program.folder = std::string(build) + "/bin";
  program.now_ns = MonotonicNowNs;
  program.chance = [] { return uint64_t{0}; };
  program.interrupted = &interrupted;
  ServiceOptions options;
  options.drivers = {std::string(build) + "/drivers/null"};
  auto shim = EmbeddedShim::Create({.deadline_ns = options.deadline_ns});
  ASSERT_TRUE(shim.ok()) << shim.status();
  ASSERT_EQ(prctl(PR_GET_DUMPABLE), 1) << "of a program that was just started";
  const auto service = Service::Start(program, options, shim->get(), "embedded");
  ASSERT_TRUE(service.ok()) << service.status();
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
}

}  // namespace
}  // namespace bulkhead
