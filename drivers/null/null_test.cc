// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <bulkhead/testing.hpp>

#include <cstdlib>
#include <string>

namespace bulkhead::testing {
namespace {

std::string Folder() { return std::string(std::getenv("BULKHEAD_BUILD")) + "/drivers/null"; }

TEST(Null, AllowsWhateverItIsAsked) {
  DriverTest driver({.folder = Folder()});
  driver.start();
  for (uint64_t inode = 0; inode < 4; ++inode) {
    const Result result = driver.call({.no_file = true, .inode = inode});
    EXPECT_TRUE(result.allowed());
    EXPECT_FALSE(result.cacheable);
  }
}

TEST(Null, ItsOptionsSayWhatItDenies) {
  DriverTest driver({.folder = Folder(), .options = "cache deny-odd"});
  driver.start();
  for (uint64_t inode = 0; inode < 4; ++inode) {
    const Result result = driver.call({.no_file = true, .inode = inode});
    EXPECT_EQ(result.allowed(), inode % 2 == 0);
    EXPECT_TRUE(result.cacheable);
  }
}

}  // namespace
}  // namespace bulkhead::testing
