// SPDX-License-Identifier: Apache-2.0
//
// Each request of README.md that ends the driver's process, in a process of its own.
#include <gtest/gtest.h>
#include <signal.h>
#include <bulkhead/testing.hpp>

#include <chrono>
#include <cstdlib>
#include <string>

namespace bulkhead::testing {
namespace {

std::string Folder() { return std::string(std::getenv("BULKHEAD_BUILD")) + "/drivers/faulty"; }

End Asked(const std::string& request) {
  return in_child(
      {.folder = Folder()},
      [&](DriverTest& driver) { driver.call({.path = request, .no_file = true}); },
      std::chrono::seconds(20));
}

// A sanitizer makes exits of some signals; none of them is 0.
TEST(Faulty, EndsAsAsked) {
  EXPECT_NE(Asked("crash-").exit_code, 0);
  EXPECT_NE(Asked("abort-").exit_code, 0);
  EXPECT_NE(Asked("overflow-").exit_code, 0);
  EXPECT_EQ(Asked("exit-").exit_code, 7);
  EXPECT_EQ(Asked("words-").signal, SIGKILL);
  EXPECT_EQ(Asked("anything").exit_code, 0);
}

TEST(Faulty, FloodsItsLogAndItIsCounted) {
  DriverTest driver({.folder = Folder()});
  driver.start();
  EXPECT_TRUE(driver.call({.path = "flood-", .no_file = true}).allowed());
  EXPECT_EQ(driver.log().size() + driver.log_dropped(), 100'000u);
}

}  // namespace
}  // namespace bulkhead::testing
